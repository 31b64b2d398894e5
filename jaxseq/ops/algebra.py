"""What "times" and "plus" are in h_t = A_t h_{t-1} + b_t, and the selects by which flags act.

Flags select, they never multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class Algebra:
    """What one A does to one state, how two compose, and what sums are. All of it acts on leading axes alike."""

    apply: Callable[[jax.Array, jax.Array], jax.Array]  # A h
    product: Callable[[jax.Array, jax.Array], jax.Array]  # A h again, for all steps at once, as one differentiates it
    compose: Callable[[jax.Array, jax.Array], jax.Array]  # A2 A1
    identity: Callable[[jax.Array], jax.Array]  # the identity in A's shape and dtype
    transpose: Callable[[jax.Array], jax.Array]
    add: Callable[[jax.Array, jax.Array], jax.Array] = jnp.add
    zero: float = 0.0  # of `add`


FLOOR = -1e30  # the logarithm of zero: finite, because -inf - (-inf) is NaN and so are its derivatives
DIAGONAL = Algebra(jnp.multiply, jnp.multiply, jnp.multiply, jnp.ones_like, lambda a: a)
LOGARITHMS = Algebra(jnp.add, jnp.add, jnp.add, jnp.zeros_like, lambda a: a, jnp.logaddexp, FLOOR)
MAXIMA = Algebra(jnp.add, jnp.add, jnp.add, jnp.zeros_like, lambda a: a, jnp.maximum, FLOOR)


def over_time(flag: jax.Array, h: jax.Array) -> jax.Array:
    """A flag (B, T) or (B,) with trailing axes of size 1, so that it broadcasts against h."""
    return flag.reshape(flag.shape + (1,) * (h.ndim - flag.ndim))


def previous(
    h: jax.Array, h0: jax.Array, reset: jax.Array | None, reverse: bool = False, zero: float = 0.0
) -> jax.Array:
    """h_{t-1} for every t, (B, T, ...): h0 at the first step, zero where `reset` (B, T) is True."""
    first = h0[:, None].astype(h.dtype)
    before = jnp.concatenate([h[:, 1:], first] if reverse else [first, h[:, :-1]], axis=1)
    return unless(reset, before, zero)


def at(x: Any, t: Any) -> Any:
    """Step t of x (B, T, ...): x's only step if it has one."""
    if x is None:
        return None
    return x[:, 0] if x.shape[1] == 1 else lax.dynamic_index_in_dim(x, t, 1, keepdims=False)


def where(flag: jax.Array | None, x: jax.Array, other: Any) -> jax.Array:
    """x where the flag is True or None."""
    return x if flag is None else jnp.where(over_time(flag, x), x, other)


def unless(flag: jax.Array | None, x: jax.Array, zero: float = 0.0) -> jax.Array:
    """x, zero where the flag is True."""
    return x if flag is None else jnp.where(over_time(flag, x), zero, x)
