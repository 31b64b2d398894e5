"""What "times" and "plus" are in h_t = A_t h_{t-1} + b_t, and the selects by which flags act.

A state, and what acts on it, is an array or a tree of arrays. Flags select, they never multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class Algebra:
    """What one A does to one state, how two compose, and what sums are. All of it acts on leading axes alike."""

    apply: Callable[[Any, Any], Any]  # A h
    product: Callable[[Any, Any], Any]  # A h again, for all steps at once, as one differentiates it
    compose: Callable[[Any, Any], Any]  # A2 A1
    identity: Callable[[Any], Any]  # the identity in A's shape and dtype
    transpose: Callable[[Any], Any]
    add: Callable[[Any, Any], Any] = jnp.add
    zero: float = 0.0  # of `add`


FLOOR = -1e30  # the logarithm of zero: finite, because -inf - (-inf) is NaN and so are its derivatives
DIAGONAL = Algebra(jnp.multiply, jnp.multiply, jnp.multiply, jnp.ones_like, lambda a: a)
LOGARITHMS = Algebra(jnp.add, jnp.add, jnp.add, jnp.zeros_like, lambda a: a, jnp.logaddexp, FLOOR)
MAXIMA = Algebra(jnp.add, jnp.add, jnp.add, jnp.zeros_like, lambda a: a, jnp.maximum, FLOOR)


def _apply(A, h):
    return tuple(reduce(jnp.add, (a * x for a, x in zip(row, h, strict=True))) for row in A)


def _compose(A2, A1):
    columns = tuple(zip(*A1, strict=True))
    return tuple(_apply(columns, row) for row in A2)


def _identity(A):
    return tuple(
        tuple(jnp.ones_like(a) if i == j else jnp.zeros_like(a) for j, a in enumerate(row)) for i, row in enumerate(A)
    )


def _transpose(A):
    return tuple(zip(*A, strict=True))


# A small matrix as nested tuples, a state as a tuple: every product is elementwise on long arrays.
ENTRIES = Algebra(_apply, _apply, _compose, _identity, _transpose, partial(jax.tree.map, jnp.add))


def over_time(flag: jax.Array, h: jax.Array) -> jax.Array:
    """A flag (B, T) or (B,) with trailing axes of size 1, so that it broadcasts against h."""
    return flag.reshape(flag.shape + (1,) * (h.ndim - flag.ndim))


def previous(h: Any, h0: Any, reset: jax.Array | None, reverse: bool = False, zero: float = 0.0) -> Any:
    """h_{t-1} for every t, (B, T, ...): h0 at the first step, zero where `reset` (B, T) is True."""

    def shifted(h, h0):
        first = h0[:, None].astype(h.dtype)
        return jnp.concatenate([h[:, 1:], first] if reverse else [first, h[:, :-1]], axis=1)

    return unless(reset, jax.tree.map(shifted, h, h0), zero)


def steps(tree: Any) -> int:
    """T of a tree of arrays (B, T, ...)."""
    return jax.tree.leaves(tree)[0].shape[1]


def at(tree: Any, t: Any) -> Any:
    """Step t of every x (B, T, ...): its only step if it has one."""

    def one(x):
        return x[:, 0] if x.shape[1] == 1 else lax.dynamic_index_in_dim(x, t, 1, keepdims=False)

    return jax.tree.map(one, tree)


def put(tree: Any, step: Any, t: Any) -> Any:
    """The arrays (B, T, ...) with `step` (B, ...) as their step t."""
    return jax.tree.map(lambda x, one: lax.dynamic_update_index_in_dim(x, one, t, 1), tree, step)


def where(flag: jax.Array | None, x: Any, other: Any) -> Any:
    """x where the flag is True or None, elsewhere `other`: a tree like x, or one number."""
    if flag is None:
        return x
    if isinstance(other, int | float):
        return jax.tree.map(lambda x: jnp.where(over_time(flag, x), x, other), x)
    return jax.tree.map(lambda x, y: jnp.where(over_time(flag, x), x, y), x, other)


def unless(flag: jax.Array | None, x: Any, zero: float = 0.0) -> Any:
    """x, zero where the flag is True."""
    return x if flag is None else jax.tree.map(lambda x: jnp.where(over_time(flag, x), zero, x), x)
