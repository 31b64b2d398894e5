"""The delta rule in chunks on TPU (Mosaic), without decay or with one per head: one pass over q, k, v, beta and log_a.

With D, e, f and a as in `attention_tpu.py` and S the state before a chunk, what the steps write solves a triangular
system (Yang et al. 2024, "Gated delta networks", section 3.3):

    M = (k kᵀ) ⊙ D below the diagonal,    (I - L) u = β ⊙ (v - e ⊙ (k S)),    L = -β ⊙ M
    P = (q kᵀ) ⊙ D,    y = P u + e ⊙ (q S),    S' = a S + (f ⊙ k)ᵀ u

Backward, with g, S, R as there, r the right-hand side of the system and X = (I - L)⁻¹:

    du = Pᵀ g + f ⊙ (k R),    dr = Xᵀ du,    dL = dr uᵀ,    dv = β ⊙ dr,    dM = -β ⊙ dL

and the rest by the rules for products and for sums of log_a. X is made of tiles of 8 rows, by substitution, and by
joining halves, [A 0; -L B]⁻¹ = [A⁻¹ 0; B⁻¹ L A⁻¹  B⁻¹], never by powers of L, which cancel (`ops/triangular.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl  # the only way to write a kernel

from jaxseq.ops.kernels.chunk_tpu import (
    Chunks,
    Decays,
    Sight,
    across,
    add,
    call,
    clear,
    column,
    decays,
    dot,
    down,
    forth,
    index,
    make_chunks,
    nan_where,
    of_decays,
    put,
    row,
    select,
    sight,
)
from jaxseq.ops.kernels.layout_tpu import STEPS

Optional = jax.Array | None


def forward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    beta: jax.Array,
    log_a: Optional,
    state: jax.Array,
    reset: Optional,
    mask: Optional,
    *,
    scale: float,
    chunk: int,
    keep: bool,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, Optional]:
    """y (B, T, H, V), the state after the last step (B, H, K, V), and, if to `keep`, those before every chunk
    (M, B, H, K, V), from q, k (B, T, G, K), v (B, T, H, V), beta and log_a (B, T, H), all float32. Padding has beta and
    log_a zero.
    """
    chunks = make_chunks(q, v, chunk)
    inputs = *_inputs(chunks, (q, k, v), beta, log_a, reset, mask, forth), chunks.state(state)
    y, last = chunks.tokens(chunks.result(*v.shape), forth), chunks.state(chunks.result(*state.shape))
    before = chunks.states(chunks.result(chunks.count, *state.shape), forth) if keep else None
    kernel = partial(_forward, chunks, scale)
    return call(kernel, "delta_forward", chunks, inputs, (y, last, before), [chunks.carried], interpret)


def backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    beta: jax.Array,
    log_a: Optional,
    before: jax.Array,
    reset: Optional,
    mask: Optional,
    g: jax.Array,
    last: jax.Array,
    *,
    scale: float,
    chunk: int,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, Optional, jax.Array]:
    """The cotangents of (q, k, v, beta, log_a, state), given the states `before` every chunk and the cotangents g of y
    and `last` of the state after the last step.
    """
    chunks = make_chunks(q, v, chunk)
    back = lambda m: chunks.count - 1 - m  # noqa: E731
    given = chunks.states(before, back), chunks.tokens(g, back), chunks.state(last)
    inputs = *_inputs(chunks, (q, k, v), beta, log_a, reset, mask, back), *given
    tokens = [chunks.tokens(chunks.result(*x.shape), back) for x in (q, k, v)]
    rows = chunks.numbers(chunks.result(len(v), chunks.count, chunks.heads, chunks.size), back)
    results = tokens, rows, None if log_a is None else rows, chunks.state(chunks.result(*last.shape))
    kernel = partial(_backward, chunks, scale)
    (dq, dk, dv), dbeta, dlog_a, dstate = call(
        kernel, "delta_backward", chunks, inputs, results, [chunks.carried], interpret
    )
    return dq, dk, dv, chunks.steps(dbeta), None if dlog_a is None else chunks.steps(dlog_a), dstate


def _inputs(chunks: Chunks, tokens: Any, beta: Any, log_a: Any, reset: Any, mask: Any, order: Any) -> tuple[Any, ...]:
    flags = chunks.places(reset, mask)
    rows = [None if x is None else chunks.numbers(chunks.rows(x), order) for x in (beta, log_a)]
    return [chunks.tokens(x, order) for x in tokens], rows, None if flags is None else chunks.flags(flags, order)


def _forward(chunks: Chunks, scale: float, inputs: Any, results: Any, carry: Any) -> None:
    tokens, rows, flags, state = inputs
    y, last, before = results
    pl.when(pl.program_id(2) == 0)(lambda: put(carry, ..., state[0]))
    if before is not None:
        before[0, 0] = carry[...]
    seeing = sight(chunks.size, flags)

    def one(head: Any, _: None) -> None:
        x = _read(chunks, head, tokens, rows, seeing)
        y[0, :, head, :], carry[head] = _chunk(scale, x, seeing, carry[head])

    lax.fori_loop(0, chunks.block_heads, one, None)
    pl.when(pl.program_id(2) == chunks.count - 1)(lambda: put(last, 0, carry[...]))


def _backward(chunks: Chunks, scale: float, inputs: Any, results: Any, carry: Any) -> None:
    tokens, rows, flags, before, g, last = inputs
    (dq, dk, dv), dbeta, dlog_a, dstate = results
    pl.when(pl.program_id(2) == 0)(lambda: put(carry, ..., last[0]))
    seeing = sight(chunks.size, flags)
    clear(chunks, dq, dk)

    def one(head: Any, _: None) -> None:
        group = head if chunks.ratio == 1 else lax.div(head, chunks.ratio)
        x = _read(chunks, head, tokens, rows, seeing)
        given = before[0, 0, head], select(seeing.real, g[0, :, head, :]), carry[head]
        *cotangents, sums, exponents, carry[head] = _pull(scale, x, seeing, *given)
        add(chunks, (dq, dk, dv), group, head, cotangents)
        dbeta[0, 0, pl.ds(head, 1), :] = sums
        if dlog_a is not None:
            dlog_a[0, 0, pl.ds(head, 1), :] = exponents

    lax.fori_loop(0, chunks.block_heads, one, None)
    pl.when(pl.program_id(2) == chunks.count - 1)(lambda: put(dstate, 0, carry[...]))


def _chunk(scale: float, x: Any, seeing: Sight, S: Any) -> tuple[jax.Array, jax.Array]:
    """y of a chunk and the state after it. What is not finite is taken out and put back: products would spread it."""
    broken, (q, k, v, beta), log_a, S = _contain(seeing, x, S)
    q, left = scale * q, decays(log_a, seeing.seen)
    u = dot(_inverse(_system(k, beta, left, seeing)[1]), beta * (v - select(seeing.before, left.start * dot(k, S))))
    scores = select(seeing.seen, dot(q, k, (1, 1)) * left.between)
    y = dot(scores, u) + select(seeing.before, left.start * dot(q, S))
    after = select(seeing.kept, left.total * S) + dot(select(seeing.ending, left.end * k), u, (0, 0))
    return y * nan_where(broken), after * nan_where(broken[len(k) - 1 :])


def _pull(scale: float, x: Any, seeing: Sight, S: Any, g: Any, R: Any) -> tuple[Any, ...]:
    """The cotangents of q, k, v, beta, log_a and of the state S before a chunk, from those of y and of the state after
    it.
    """
    _, (q, k, v, beta), log_a, S = _contain(seeing, x, S)
    q, left = scale * q, decays(log_a, seeing.seen)
    M, L = _system(k, beta, left, seeing)
    X, error = _inverse(L), v - select(seeing.before, left.start * dot(k, S))
    u = dot(X, beta * error)
    scores = select(seeing.seen, dot(q, k, (1, 1)) * left.between)
    dr = dot(X, dot(scores, g, (0, 0)) + select(seeing.ending, left.end * dot(k, R)), (0, 0))
    dL, dscores = dot(dr, u, (1, 1)), select(seeing.seen, dot(g, u, (1, 1)))
    dM = select(_below(seeing.seen), -beta * dL)
    removed = select(seeing.before, left.start * (-beta * dr))
    of_q, of_k = select(seeing.before, left.start * dot(g, S, (1, 1))), dot(removed, S, (1, 1))
    wrote = select(seeing.ending, left.end * dot(u, R, (1, 1)))
    inside, across_k = dscores * left.between, dM * left.between
    dq = dot(inside, k) + of_q
    dk = dot(inside, q, (0, 0)) + dot(across_k, k) + dot(across_k, k, (0, 0)) + of_k + wrote
    read = select(seeing.before, left.start * g)
    dS = select(seeing.kept, left.total * R) + dot(q, read, (0, 0)) + dot(k, removed, (0, 0))
    sums = row(across(dr * error) - across(select(_below(seeing.seen), dL) * M))
    if log_a is None:
        return scale * dq, dk, beta * dr, sums, None, dS
    starts, kept = across(q * of_q) + across(k * of_k), select(seeing.kept, left.total * across(down(S * R)))
    exponents = of_decays(dscores * scores + dM * M, starts, across(k * wrote), kept, seeing.seen)
    return scale * dq, dk, beta * dr, sums, exponents, dS


def _system(k: jax.Array, beta: jax.Array, left: Decays, seeing: Sight) -> tuple[jax.Array, jax.Array]:
    """M and L."""
    M = select(_below(seeing.seen), dot(k, k, (1, 1)) * left.between)
    return M, -beta * M


def _below(seen: jax.Array) -> jax.Array:
    size = len(seen)
    return seen & (index(size, 0) > index(size, 1))


def _inverse(L: jax.Array) -> jax.Array:
    """(I - L)⁻¹ of what is below the diagonal: tiles of 8 rows, then twice as many, ..."""
    size = len(L)
    t, j = index(size, 0), index(size, 1)
    X = _tiles(jnp.where(t ^ j < STEPS, L, 0))
    half = STEPS
    while half < size:
        halves = (t > j) & (t ^ j >= half) & (t ^ j < 2 * half)
        X = X + dot(X, dot(jnp.where(halves, L, 0), X))
        half *= 2
    return X


def _tiles(L: jax.Array) -> jax.Array:
    """(I - L)⁻¹ of tiles of 8 rows along the diagonal, by substitution in all of them at once."""
    size = len(L)
    t, j = index(size, 0), index(size, 1)
    X = jnp.where(t == j, 1.0, 0.0).reshape(-1, STEPS, size)
    for i in range(STEPS - 1):
        step = across(jnp.where(j & STEPS - 1 == i, L, 0)).reshape(-1, STEPS, 1)
        X = X + step * X[:, i : i + 1, :]
    return X.reshape(size, size)


def _contain(seeing: Sight, x: Any, S: Any) -> tuple[Any, ...]:
    """Which steps (C, 1) come after what is not finite in their document, and all without it."""
    columns, log_a = x
    bad = [across(jnp.where(jnp.abs(x) < jnp.inf, 0.0, 1.0)) for x in columns]
    bad = row(sum(bad[1:], bad[0]))
    if log_a is not None:
        wrong = ~(jnp.abs(log_a) < jnp.inf)
        bad, log_a = bad + jnp.where(wrong, 1.0, 0.0), jnp.where(wrong, 0, log_a)
    lost = down(across(jnp.where(jnp.abs(S) < jnp.inf, 0.0, 1.0)))
    broken = across(select(seeing.seen, bad)) + select(seeing.before, lost)
    fine = column(bad) == 0
    return broken > 0, [select(fine, x) for x in columns], log_a, select(lost == 0, S)


def _read(chunks: Chunks, head: Any, tokens: Any, rows: Any, seeing: Sight) -> tuple[Any, Any]:
    """q, k and v (C, K) of a head and beta (C, 1), zero where a step does not count, and log_a (1, C)."""
    group = head if chunks.ratio == 1 else lax.div(head, chunks.ratio)
    tokens = [select(seeing.real, x[0, :, i, :]) for x, i in zip(tokens, (group, group, head), strict=True)]
    beta, log_a = rows
    at = 0, 0, pl.ds(head, 1), slice(None)
    return [*tokens, column(beta[at])], None if log_a is None else log_a[at]
