"""Decays inside a chunk of a matrix-state recurrence: a product of decays is the exp of a sum, never of a difference.

With c the cumulative sum of log_a, e^{c_t - c_j} loses |c| ulps and e^{c_t} e^{-c_j} overflows. Here Σ_{j<i<=t} log_a_i
is added up from its own terms. One decay per step: a C x C matrix of such sums. One decay per channel: the chunk is
halved until nothing is left, and a pair (t, j) is scored where its halves part, at the start of the later one:

    e^{Σ_{j<i<=t} log_a_i} = e^{Σ from the later half's start through t} e^{Σ after j to the earlier half's end}

Both exponents are <= 0 if log_a is, so nothing overflows, and what underflows is nothing. A pair's sums hold no other
step's decay, so what is not finite in one document stays out of the next. Arrays are (..., C, K), and `document`
(..., C) int32 numbers the documents in the order of time; axes before C broadcast.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax


def decayed_scores(
    q: jax.Array,
    k: jax.Array,
    log_a: jax.Array | None = None,
    document: jax.Array | None = None,
    *,
    exclusive: bool = False,
    strict: bool = False,
) -> jax.Array:
    """A[t, j] = Σ_k q_tk k_jk e^{Σ_{j<i<=t} log_a_ik} for j <= t in one document, else 0.

    Args:
      q: queries (..., C, K), float32 or wider.
      k: keys (..., C, K).
      log_a: logarithm of the decays (..., C, K), or (..., C, 1) if the channels share one; no decay if None.
      document: (..., C) int32, the document of every step; all one document if None.
      exclusive: leave out the query's own decay, Σ_{j<i<t}; for reading the state before the step, so with `strict`.
      strict: j < t only.

    Returns:
      A (..., C, C). What is not finite at step i reaches the rows of i, the columns of i and the pairs j < i <= t.
    """
    wanted = pairs(q.shape[-2], document, strict=strict)
    if log_a is None:
        return jnp.where(wanted, product(q, k), 0)
    if log_a.shape[-1] > 1:
        return jnp.where(wanted, _by_halving(q, k, log_a, exclusive), 0)
    exponent = jnp.where(wanted, _between(log_a[..., 0], document, exclusive), 0)
    return jnp.where(wanted, product(q, k) * jnp.exp(exponent), 0)


def decay_from_start(log_a: jax.Array, *, exclusive: bool = False) -> jax.Array:
    """e^{Σ_{i<=t} log_a_i} (..., C, K): what is left at t of the state before the chunk; i < t if `exclusive`.

    The sums know nothing of documents: select what is read of that state, zero from the first reset on.
    """
    *_, (from_start, _) = _levels(log_a, exclusive)
    return jnp.exp(from_start[..., 0, : log_a.shape[-2], :])


def decay_to_end(log_a: jax.Array) -> jax.Array:
    """e^{Σ_{i>t} log_a_i} (..., C, K): what the chunk's end has left of a write at t, if it ends the same document."""
    *_, (_, to_end) = _levels(log_a, exclusive=False)
    return jnp.exp(to_end[..., 0, : log_a.shape[-2], :])


def pairs(size: int, document: jax.Array | None = None, *, strict: bool = False) -> jax.Array:
    """(..., C, C) bool: step t sees step j, which is not later (`strict`: earlier) and of the same document."""
    causal = jnp.tril(jnp.ones((size, size), bool), -1 if strict else 0)
    return causal if document is None else causal & (document[..., :, None] == document[..., None, :])


def product(q: jax.Array, k: jax.Array) -> jax.Array:
    """q kᵀ (..., C, C) of (..., C, K), in full precision on every platform."""
    return jnp.matmul(q, jnp.swapaxes(k, -1, -2), precision=lax.Precision.HIGHEST)


def _between(log_a: jax.Array, document: jax.Array | None, exclusive: bool) -> jax.Array:
    """Σ_{j<i<=t} log_a_i (..., C, C) for log_a (..., C), as a product with [j < i]: a sum of its own terms only."""
    size = log_a.shape[-1]
    terms = jnp.where(pairs(size, document, strict=exclusive), log_a[..., None, :], 0)
    return jnp.matmul(terms, jnp.tril(jnp.ones((size, size), log_a.dtype), -1), precision=lax.Precision.HIGHEST)


def _by_halving(q: jax.Array, k: jax.Array, log_a: jax.Array, exclusive: bool) -> jax.Array:
    size = q.shape[-2]
    q, k = _to_power_of_two(q), _to_power_of_two(k)
    shape = jnp.broadcast_shapes(q.shape[:-2], k.shape[:-2], log_a.shape[:-2]) + q.shape[-2:-1]
    scores = jnp.broadcast_to(jnp.sum(q * k, axis=-1), shape)[..., None, None]
    for from_start, to_end in _levels(log_a, exclusive):
        if from_start.shape[-3] == 1:
            break
        (early, late), blocks = _halves(scores), from_start.shape[-3:-1]
        queries, keys = (_halves(x.reshape(*x.shape[:-2], *blocks, x.shape[-1])) for x in (q, k))
        across = product(queries[1] * jnp.exp(_halves(from_start)[1]), keys[0] * jnp.exp(_halves(to_end)[0]))
        above = jnp.concatenate([early, jnp.zeros_like(across)], axis=-1)
        scores = jnp.concatenate([above, jnp.concatenate([across, late], axis=-1)], axis=-2)
    return scores[..., 0, :size, :size]


def _levels(log_a: jax.Array, exclusive: bool) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Sums from a block's start through t, and after t to its end: (..., C/n, n, K) for n = 1, 2, 4, ... C in turn."""
    total = _to_power_of_two(log_a)[..., :, None, :]
    from_start, to_end = jnp.zeros_like(total) if exclusive else total, jnp.zeros_like(total)
    yield from_start, to_end
    while total.shape[-3] > 1:
        first, second = _halves(total)
        (start, start_late), (end_early, end) = _halves(from_start), _halves(to_end)
        from_start = jnp.concatenate([start, start_late + first], axis=-2)
        to_end = jnp.concatenate([end_early + second, end], axis=-2)
        total = first + second
        yield from_start, to_end


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The even and the odd blocks of (..., blocks, n, K): the halves of blocks twice as long."""
    early, late = jnp.split(x.reshape(*x.shape[:-3], -1, 2, *x.shape[-2:]), 2, axis=-3)
    return early[..., 0, :, :], late[..., 0, :, :]


def _to_power_of_two(x: jax.Array) -> jax.Array:
    """(..., C, K) with C rounded up to a power of two, by steps that neither decay nor count."""
    size = x.shape[-2]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, (1 << (size - 1).bit_length()) - size), (0, 0)])
