"""The algorithms of affine recurrences, written once for every algebra.

States, inputs and matrices are arrays or trees of arrays, (B, T, ...). For an algorithm a step with `mask` False is one
whose A is the identity; its b is zero already. A has size 1 in any axis in which it is constant, and is never spread
over that axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import at, previous, put, steps, unless, where


@dataclass(frozen=True)
class Algorithm:
    """One way to run the recurrence, and its transpose or, fused, the whole backward pass; none is differentiated.

    `run(algebra, A, b, h0, reset, mask, *, reverse) -> h`
    `adjoint(algebra, A, g, reset, mask, *, reverse) -> λ`
    `backward(algebra, A, h, h0, g, reset, mask, *, reverse) -> (dA, db, dh0)`
    """

    run: Callable[..., jax.Array]
    adjoint: Callable[..., jax.Array] | None
    backward: Any = None


def algorithms(chunk: int) -> dict[str, Algorithm]:
    """The algorithms that serve every algebra, by the name of the method."""
    in_chunks = partial(chunked, chunk=chunk)
    return {
        "sequential": Algorithm(sequential, sequential_adjoint),
        "associative": Algorithm(associative, by_reversal(associative)),
        "chunked": Algorithm(in_chunks, by_reversal(in_chunks)),
    }


def sequential(algebra, a, b, h0, reset, mask, *, reverse):
    """One pass in place: on CPU several times as fast as `lax.associative_scan`, and no array but the result."""
    time = steps(b)

    def body(i, carry):
        h, out = carry
        t = time - 1 - i if reverse else i
        h = _step(algebra, a, b, reset, mask, t, h)
        return h, put(out, h, t)

    return lax.fori_loop(0, time, body, (h0, _zeros(b)))[1]


def sequential_adjoint(algebra, a, g, reset, mask, *, reverse):
    """λ, carrying μ_t = A_tᵀ λ_t so that A is read at its own step."""
    time = steps(g)

    def body(i, carry):
        mu, out = carry
        t = i if reverse else time - 1 - i
        lam = _sum(at(g, t), mu)
        mu = where(at(mask, t), algebra.apply(algebra.transpose(at(a, t)), lam), lam)
        return unless(at(reset, t), mu), put(out, lam, t)

    return lax.fori_loop(0, time, body, (_zeros(_first(g)), _zeros(g)))[1]


def associative(algebra, a, b, h0, reset, mask, *, reverse):
    """Logarithmic depth. The element of a step is (A, b, whether a document starts): what came before it is dropped."""
    if reverse:
        a, b, reset, mask = _flip((a, b, reset, mask))
        return _flip(associative(algebra, a, b, h0, reset, mask, reverse=False))
    a = _masked(algebra, a, mask)
    first = unless(at(reset, 0), algebra.apply(_first(a), h0), algebra.zero)
    b = jax.tree.map(lambda b, x: b.at[:, 0].set(x), b, algebra.add(first, _first(b)))
    if steps(a) < steps(b):
        return _invariant(algebra, a, b, reset)
    return lax.associative_scan(partial(_compose, algebra), (a, b, reset), axis=1)[1]


def chunked(algebra, a, b, h0, reset, mask, *, reverse, chunk):
    """All chunks of `chunk` steps at once, twice: for their summaries, then from the states these give them."""
    time = steps(b)
    a, b, reset, mask = _split(algebra, a, b, reset, mask, min(chunk, time))
    axes = (None if steps(a) == 1 else 1, 1, *(None if x is None else 1 for x in (reset, mask)))
    a = _first(a) if axes[0] is None else a
    total, last = jax.vmap(partial(summary, algebra, reverse=reverse), axes, 1)(a, b, reset, mask)
    cut = None if reset is None else jnp.any(reset, axis=2)
    after = sequential(algebra, total, last, h0, cut, None, reverse=reverse)
    before = previous(after, h0, None, reverse)
    run = jax.vmap(partial(sequential, algebra, reverse=reverse), (*axes[:2], 1, *axes[2:]), 1)
    h = run(a, b, before, reset, mask)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:])[:, :time], h)


def summary(algebra, a, b, reset, mask, *, reverse):
    """What a stretch of time does to the state: (A_T ... A_1, the last state if the stretch starts from zero).

    a, b (B, T, ...) and the flags (B, T) are as an algorithm gets them: b is zero where `mask` is False. The total has
    no time axis, and size 1 for the batch if neither a nor a flag differs between rows; `last` is (B, ...). The state
    after the stretch is `last` where `reset` is True at any of its steps, and `algebra.apply(total, h0) + last` where
    not. The total is zero where there was a reset; select all the same, because zero times NaN is NaN.
    """
    rows = max(x.shape[0] for x in jax.tree.leaves((a, reset, mask)))
    total = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), algebra.identity(_first(a)))

    def body(i, carry):
        total, h = carry
        t = steps(b) - 1 - i if reverse else i
        composed = where(at(mask, t), algebra.compose(at(a, t), total), total)
        return unless(at(reset, t), composed, algebra.zero), _step(algebra, a, b, reset, mask, t, h)

    start = jax.tree.map(lambda x: jnp.full_like(x, algebra.zero), _first(b))
    return lax.fori_loop(0, steps(b), body, (total, start))


def by_reversal(run):
    """The transpose of `run` by `run`, the other way: μ_t = A_tᵀ (g_t + μ_{t+1}) and λ_t = g_t + μ_{t+1}."""

    def adjoint(algebra, a, g, reset, mask, *, reverse):
        a, end = algebra.transpose(a), _zeros(_first(g))
        back = unless(reset, where(mask, algebra.apply(a, g), g))
        mu = run(algebra, a, back, end, reset, mask, reverse=not reverse)
        return _sum(g, previous(mu, end, None, not reverse))

    return adjoint


def _step(algebra, a, b, reset, mask, t, h):
    """The state after step t, given the one before it."""
    h = unless(at(reset, t), h, algebra.zero)
    return algebra.add(where(at(mask, t), algebra.apply(at(a, t), h), h), at(b, t))


def _compose(algebra, first, second):
    (a1, b1, before), (a2, b2, reset) = first, second
    reached = None if before is None else before | reset
    return algebra.compose(a2, a1), _forward(algebra, a2, b1, b2, reset), reached


def _forward(algebra, a, h, b, reset):
    """A h + b, for many steps at once."""
    return algebra.add(algebra.apply(a, unless(reset, h, algebra.zero)), b)


def _invariant(algebra, a, b, reset):
    """All states for one A: every second state is a recurrence with A², and the rest are one step from those."""
    if b.shape[1] == 1:
        return b
    pairs = b.shape[1] // 2
    even, odd = (None, None) if reset is None else (reset[:, ::2], reset[:, 1::2])
    last = _forward(algebra, a, b[:, 0 : 2 * pairs : 2], b[:, 1::2], odd)
    reached = None if even is None else even[:, :pairs] | odd
    last = _invariant(algebra, algebra.compose(a, a), last, reached)
    before = previous(last, jnp.full_like(b[:, 0], algebra.zero), None)
    before = jnp.concatenate([before, last[:, -1:]], axis=1)[:, : b.shape[1] - pairs]
    first = _forward(algebra, a, before, b[:, ::2], even)
    both = jnp.stack([first[:, :pairs], last], axis=2).reshape(b.shape[0], 2 * pairs, *b.shape[2:])
    return jnp.concatenate([both, first[:, pairs:]], axis=1)


def _masked(algebra, a, mask):
    return a if mask is None else where(mask, a, algebra.identity(a))


def _first(tree):
    return jax.tree.map(lambda x: x[:, 0], tree)


def _zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def _sum(tree, other):
    return jax.tree.map(jnp.add, tree, other)


def _flip(tree):
    return jax.tree.map(lambda x: jnp.flip(x, 1), tree)


def _split(algebra, a, b, reset, mask, chunk):
    """(B, T, ...) to (B, M, C, ...), filled up with masked steps; an A that is the same at every step keeps size 1."""
    time = steps(b)
    more = -time % chunk
    if more:
        mask = jnp.ones(jax.tree.leaves(b)[0].shape[:2], bool) if mask is None else mask

    def split(tree, fill=0):
        def one(x):
            x = jnp.pad(x, ((0, 0), (0, more)) + ((0, 0),) * (x.ndim - 2), constant_values=fill)
            return x.reshape(x.shape[0], -1, chunk, *x.shape[2:])

        return jax.tree.map(one, tree)

    a = jax.tree.map(lambda x: x[:, None], a) if steps(a) < time or time == 1 else split(a)
    return a, split(b, algebra.zero), split(reset), split(mask)
