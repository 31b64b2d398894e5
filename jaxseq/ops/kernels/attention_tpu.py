"""Linear attention in chunks on TPU (Mosaic), without decay or with one per head: one pass over q, k, v and log_a.

Forward, with the state S of a head in VMEM (Dao and Gu 2024, "Transformers are SSMs", section 6), and D[t, j] what is
left at t of a write at j, e[t] of the state before the chunk, f[j] at the chunk's end, a of the state there:

    P = (q kᵀ) ⊙ D,    y = P v + e ⊙ (q S),    S' = a S + (f ⊙ k)ᵀ v

Backward, from the last chunk to the first, with the state before every chunk from the forward pass, g the cotangent
of y, and R, after the chunk, and R', before it, those of the state:

    W = (g vᵀ) ⊙ D,    dq = W k + e ⊙ (g Sᵀ),    dk = Wᵀ q + f ⊙ (v Rᵀ),    dv = Pᵀ g + f ⊙ (k R)
    R' = a R + qᵀ (e ⊙ g)

and a sum of log_a takes the cotangents of all products that have its exponential in them: (g vᵀ) ⊙ P of log D, the
rows of q ⊙ (e ⊙ g Sᵀ) of log e, those of k ⊙ (f ⊙ v Rᵀ) of log f, and a Σ S ⊙ R of log a.
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
    Sight,
    across,
    add,
    call,
    clear,
    decays,
    dot,
    down,
    forth,
    make_chunks,
    nan_where,
    of_decays,
    put,
    row,
    select,
    sight,
)

Optional = jax.Array | None


def forward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
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
    (M, B, H, K, V), from q, k (B, T, G, K), v (B, T, H, V), log_a (B, T, H), all float32. Padding does not decay.
    """
    chunks = make_chunks(q, v, chunk)
    inputs = *_inputs(chunks, (q, k, v), log_a, reset, mask, forth), chunks.state(state)
    y, last = chunks.tokens(chunks.result(*v.shape), forth), chunks.state(chunks.result(*state.shape))
    before = chunks.states(chunks.result(chunks.count, *state.shape), forth) if keep else None
    kernel = partial(_forward, chunks, scale)
    return call(kernel, "attention_forward", chunks, inputs, (y, last, before), [chunks.carried], interpret)


def backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
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
) -> tuple[jax.Array, jax.Array, jax.Array, Optional, jax.Array]:
    """The cotangents of (q, k, v, log_a, state), given the states `before` every chunk and the cotangents g of y and
    `last` of the state after the last step.
    """
    chunks = make_chunks(q, v, chunk)
    back = lambda m: chunks.count - 1 - m  # noqa: E731
    given = chunks.states(before, back), chunks.tokens(g, back), chunks.state(last)
    inputs = *_inputs(chunks, (q, k, v), log_a, reset, mask, back), *given
    tokens = [chunks.tokens(chunks.result(*x.shape), back) for x in (q, k, v)]
    rows = len(v), chunks.count, chunks.heads, chunks.size
    rows = None if log_a is None else chunks.numbers(chunks.result(*rows), back)
    results = tokens, rows, chunks.state(chunks.result(*last.shape))
    kernel = partial(_backward, chunks, scale)
    (dq, dk, dv), rows, dstate = call(
        kernel, "attention_backward", chunks, inputs, results, [chunks.carried], interpret
    )
    return dq, dk, dv, None if rows is None else chunks.steps(rows), dstate


def _inputs(chunks: Chunks, tokens: Any, log_a: Any, reset: Any, mask: Any, order: Any) -> tuple[Any, Any, Any]:
    flags = chunks.places(reset, mask)
    rows = None if log_a is None else chunks.numbers(chunks.rows(log_a), order)
    return [chunks.tokens(x, order) for x in tokens], rows, None if flags is None else chunks.flags(flags, order)


def _forward(chunks: Chunks, scale: float, inputs: Any, results: Any, carry: Any) -> None:
    tokens, log_a, flags, state = inputs
    y, last, before = results
    pl.when(pl.program_id(2) == 0)(lambda: put(carry, ..., state[0]))
    if before is not None:
        before[0, 0] = carry[...]
    seeing = sight(chunks.size, flags)

    def one(head: Any, _: None) -> None:
        x = _read(chunks, head, tokens, seeing)
        y[0, :, head, :], carry[head] = _chunk(scale, x, _row(log_a, head), seeing, carry[head])

    lax.fori_loop(0, chunks.block_heads, one, None)
    pl.when(pl.program_id(2) == chunks.count - 1)(lambda: put(last, 0, carry[...]))


def _backward(chunks: Chunks, scale: float, inputs: Any, results: Any, carry: Any) -> None:
    tokens, log_a, flags, before, g, last = inputs
    (dq, dk, dv), rows, dstate = results
    pl.when(pl.program_id(2) == 0)(lambda: put(carry, ..., last[0]))
    seeing = sight(chunks.size, flags)
    clear(chunks, dq, dk)

    def one(head: Any, _: None) -> None:
        x, group = _read(chunks, head, tokens, seeing), head if chunks.ratio == 1 else lax.div(head, chunks.ratio)
        given = before[0, 0, head], select(seeing.real, g[0, :, head, :]), carry[head]
        *cotangents, row, carry[head] = _pull(scale, x, _row(log_a, head), seeing, *given)
        add(chunks, (dq, dk, dv), group, head, cotangents)
        if rows is not None:
            rows[0, 0, pl.ds(head, 1), :] = row

    lax.fori_loop(0, chunks.block_heads, one, None)
    pl.when(pl.program_id(2) == chunks.count - 1)(lambda: put(dstate, 0, carry[...]))


def _chunk(scale: float, tokens: Any, log_a: Any, seeing: Sight, S: Any) -> tuple[jax.Array, jax.Array]:
    """y of a chunk and the state after it."""
    q, k, v = tokens
    q, left = scale * q, decays(log_a, seeing.seen)
    finite = jnp.abs(v) < jnp.inf
    spoiled = row(across(jnp.where(finite, 0.0, 1.0)))  # 0 v is not 0 where v is not finite
    nan = nan_where(across(jnp.where(seeing.seen, spoiled, 0)) > 0) * left.broken
    scores = select(seeing.seen, dot(q, k, (1, 1)) * left.between)
    carried = select(seeing.before, left.start * dot(q, S))
    written = dot(select(seeing.ending, left.end * k), select(seeing.ending, v), (0, 0)) * left.over
    return dot(scores, jnp.where(finite, v, 0)) * nan + carried, select(seeing.kept, left.total * S) + written


def _pull(scale: float, tokens: Any, log_a: Any, seeing: Sight, S: Any, g: Any, R: Any) -> tuple[Any, ...]:
    """The cotangents of q, k, v, log_a and of the state S before a chunk, from those of y and of the state after it."""
    q, k, v = tokens
    q, left = scale * q, decays(log_a, seeing.seen)
    scores = select(seeing.seen, dot(q, k, (1, 1)) * left.between)
    pulled = dot(g, v, (1, 1))
    weights = select(seeing.seen, pulled * left.between)
    read = select(seeing.before, left.start * dot(g, S, (1, 1)))
    wrote = select(seeing.ending, left.end * dot(v, R, (1, 1)))
    dq, dk = dot(weights, k) + read, dot(weights, q, (0, 0)) + wrote
    dv = dot(scores, g, (0, 0)) + select(seeing.ending, left.end * dot(k, R))
    dS = select(seeing.kept, left.total * R) + dot(q, select(seeing.before, left.start * g), (0, 0))
    if log_a is None:
        return scale * dq, dk, dv, None, dS
    kept = select(seeing.kept, left.total * across(down(S * R)))
    exponents = of_decays(select(seeing.seen, pulled * scores), across(q * read), across(k * wrote), kept, seeing.seen)
    return scale * dq, dk, dv, exponents, dS


def _read(chunks: Chunks, head: Any, tokens: Any, seeing: Sight) -> list[jax.Array]:
    """q, k and v (C, K) of a head, zero where a step does not count."""
    group = head if chunks.ratio == 1 else lax.div(head, chunks.ratio)
    return [select(seeing.real, x[0, :, i, :]) for x, i in zip(tokens, (group, group, head), strict=True)]


def _row(rows: Any, head: Any) -> Any:
    return None if rows is None else rows[0, 0, pl.ds(head, 1), :]
