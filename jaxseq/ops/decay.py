"""Decays inside a chunk of a matrix-state recurrence: a product of decays is the exp of a sum, never of a difference.

With c the cumulative sum of log_a, e^{c_t - c_j} loses |c| ulps and e^{c_t} e^{-c_j} overflows. Here Σ_{j<i<=t} log_a_i
is added up from its own terms, by a matmul with zeros and ones. One decay per step: a C x C matrix of such sums. One
decay per channel: the chunk is halved until nothing is left, and a pair (t, j) is scored where its halves part, at the
start of the later one:

    e^{Σ_{j<i<=t} log_a_i} = e^{Σ from the later half's start through t} e^{Σ after j to the earlier half's end}

Both exponents are <= 0 if log_a is, so nothing overflows, and what underflows is nothing. Inside tiles of 8 steps all
halvings are one batch of matmuls, of which each pair takes its own: on CPU a copy costs more than the products that
are not needed. Arrays are (..., C, K), and `document` (..., C) int32 numbers the documents in the order of time; axes
before C broadcast. log_a has to be finite: zero times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 8  # steps, a power of two
FORGOTTEN = -1e30  # for log_a = -inf, which times zero is NaN


def decayed_scores(
    queries: Sequence[jax.Array],
    keys: Sequence[jax.Array],
    log_a: jax.Array | None = None,
    document: jax.Array | None = None,
    *,
    strict: Sequence[bool] = (False,),
) -> jax.Array:
    """A[p, t, r, j] = Σ_κ q_tκ k_jκ e^{Σ_{j<i<=t} log_a_iκ}, queries p and keys r, for j <= t in one document, else 0.

    Args:
      queries: P arrays (..., C, K), float32 or wider.
      keys: R arrays (..., C, K).
      log_a: logarithm of the decays (..., C, K), or (..., C, 1) if the channels share one; finite; no decay if None.
      document: (..., C) int32, the document of every step; all one document if None.
      strict: for every p, or one for all: whether it reads the state before its step, j < t and Σ_{j<i<t}.

    Returns:
      A (..., P, C, R, C).
    """
    size, kinds = queries[0].shape[-2], (len(queries), len(keys))
    wanted = jnp.stack([pairs(size, document, strict=x) for x in strict], axis=-3)[..., None, :]
    if log_a is not None and log_a.shape[-1] > 1:
        return jnp.where(wanted, _by_halving(queries, keys, log_a, strict), 0)
    q, k = (jnp.concatenate(x, axis=-2) for x in (queries, keys))
    scores = product(q, k)
    if log_a is not None:
        scores = scores * _factors(log_a, document, strict, kinds)
    return jnp.where(wanted, _unfold(scores, kinds), 0)


def decay_from_start(log_a: jax.Array, *, exclusive: bool = False) -> jax.Array:
    """e^{Σ_{i<=t} log_a_i} (..., C, K): what is left at t of the state before the chunk; i < t if `exclusive`.

    The sums know nothing of documents: select what is read of that state, zero from the first reset on.
    """
    return jnp.exp(_sums(np.tri(log_a.shape[-2], k=-int(exclusive)), log_a))


def decay_to_end(log_a: jax.Array) -> jax.Array:
    """e^{Σ_{i>t} log_a_i} (..., C, K): what the chunk's end has left of a write at t, if it ends the same document."""
    return jnp.exp(_sums(1 - np.tri(log_a.shape[-2]), log_a))


def finite_decays(log_a: jax.Array | None) -> jax.Array | None:
    """log_a without what is no decay, NaN and inf, for which `broken_decays` stands; -inf forgets all and may stay."""
    return None if log_a is None else jnp.where(log_a < jnp.inf, jnp.maximum(log_a, FORGOTTEN), 0)


def broken_decays(log_a: jax.Array, document: jax.Array | None, *, strict: bool = False) -> jax.Array:
    """NaN from a step (`strict`: after one) whose log_a is NaN or inf to its document's end, else 1 (..., C, 1)."""
    bad = ~jnp.all(log_a < jnp.inf, axis=-1)
    reached = jnp.any(pairs(bad.shape[-1], document, strict=strict) & bad[..., None, :], axis=-1, keepdims=True)
    return jnp.where(reached, jnp.nan, 1).astype(log_a.dtype)


def pairs(size: int, document: jax.Array | None = None, *, strict: bool = False) -> jax.Array:
    """(..., C, C) bool: step t sees step j, which is not later (`strict`: earlier) and of the same document."""
    causal = jnp.tril(jnp.ones((size, size), bool), -1 if strict else 0)
    return causal if document is None else causal & (document[..., :, None] == document[..., None, :])


def product(q: jax.Array, k: jax.Array) -> jax.Array:
    """q kᵀ (..., C, C) of (..., C, K), in full precision on every platform."""
    return jnp.matmul(q, jnp.swapaxes(k, -1, -2), precision=lax.Precision.HIGHEST)


def _between(log_a: jax.Array, document: jax.Array | None, exclusive: bool) -> jax.Array:
    """e^{Σ_{j<i<=t} log_a_i} (..., C, C) for log_a (..., C, 1), a sum of its own terms by a product with [j < i]."""
    size = log_a.shape[-2]
    seen = pairs(size, document, strict=exclusive)
    terms = jnp.where(seen, jnp.swapaxes(log_a, -1, -2), 0)
    later = jnp.tril(jnp.ones((size, size), log_a.dtype), -1)
    return jnp.exp(jnp.where(seen, jnp.matmul(terms, later, precision=lax.Precision.HIGHEST), 0))


def _factors(log_a, document, strict, kinds):
    """The decays (..., P C, R C) of pairs whose channels share one; anything where a pair is not scored."""
    strict = strict if len(strict) > 1 else strict * kinds[0]
    # Copies, which have no sums for a derivative, for the reason in `_tiled`.
    rows = [jnp.concatenate([_between(log_a, document, x)] * kinds[1], axis=-1) for x in strict]
    return jnp.concatenate(rows, axis=-2)


def _sums(terms: np.ndarray, log_a: jax.Array) -> jax.Array:
    """Σ_i terms[t, i] log_a_i (..., t, K)."""
    # Broadcast, because a matmul of one matrix with many returns them transposed.
    rows = jnp.broadcast_to(jnp.asarray(terms, log_a.dtype), (*log_a.shape[:-2], *terms.shape))
    return jnp.matmul(rows, log_a, precision=lax.Precision.HIGHEST)


def _by_halving(queries, keys, log_a, strict):
    """Scores (..., P, C, R, C): inside tiles, then between halves of 2, 4, ... tiles."""
    size, kinds = log_a.shape[-2], (len(queries), len(keys))
    lead = jnp.broadcast_shapes(*(x.shape[:-2] for x in (*queries, *keys, log_a)))
    n = min(TILE, _power_of_two(size))
    tiles = _power_of_two(-(-size // n))
    strict = strict if len(strict) > 1 else strict * kinds[0]
    q, k = (jnp.concatenate([_tiled(x, lead, tiles, n) for x in xs], axis=-2) for xs in (queries, keys))
    log_a = _tiled(log_a, lead, tiles, n)
    scores = _unfold(_in_tiles(q, k, log_a, strict), kinds)
    starts = _sums(np.concatenate([np.tri(n, k=-int(x)) for x in strict]), log_a)
    ends = _sums(np.tile(1 - np.tri(n), (kinds[1], 1)), log_a)
    total = jnp.sum(log_a, axis=-2).reshape(*lead, tiles, -1)
    for run in _doublings(tiles):
        later, earlier = (_sums(x, total).reshape(*log_a.shape[:-2], 1, -1) for x in _run_of(tiles, run))
        late = _half(q * jnp.exp(starts + later), 1, run, kinds[0])
        early = _half(k * jnp.exp(ends + earlier), 0, run, kinds[1])
        scores = _join(scores, _unfold(product(late, early), kinds))
    return scores.reshape(*lead, *scores.shape[-4:])[..., :size, :, :size]


def _in_tiles(q, k, log_a, strict):
    """Scores (..., P n, R n) of tiles (..., P n, K) and (..., R n, K)."""
    n, kinds = log_a.shape[-2], k.shape[-2] // log_a.shape[-2]
    of_q, of_k, wanted = _levels(n, strict)

    def at_levels(x, terms):
        factor = jnp.exp(_sums(terms.reshape(-1, n), log_a))
        return x[..., None, :, :] * factor.reshape(*factor.shape[:-2], *terms.shape[:2], -1)

    scores = product(at_levels(q, of_q), at_levels(k, np.tile(of_k, (1, kinds, 1))))
    return jnp.sum(jnp.where(np.tile(wanted, (1, len(strict), kinds)), scores, 0), axis=-3)


def _levels(n, strict):
    """The terms of the sums of queries (levels, P n, n) and of keys, and the pairs that are scored (levels, n, n).

    The first level is a step with itself, the others halves of 1, 2, 4, ... n / 2 steps.
    """
    t, i = np.arange(n)[:, None], np.arange(n)
    levels = [(np.zeros((len(strict) * n, n)), np.zeros((n, n)), t == i)]
    for half in _doublings(n):
        same, late = t // half == i // half, t // half % 2 == 1
        of_q = np.concatenate([late & same & (i + int(x) <= t) for x in strict])
        levels.append((of_q, ~late & same & (i > t), late & (i // half == t // half - 1)))
    return tuple(np.stack(x) for x in zip(*levels, strict=True))


def _run_of(tiles, run):
    """Which tiles lie before a tile in its run of so many, and which after it (tiles, tiles)."""
    t, i = np.arange(tiles)[:, None], np.arange(tiles)
    same = t // run == i // run
    return same & (i < t), same & (i > t)


def _tiled(x, lead, tiles, n):
    """(..., C, K), filled up with steps that neither decay nor count, as tiles (..., N, n, K).

    N has the two axes before C too: XLA for CPU crashes at sums of products over 7 axes, derivatives of broadcasting.
    """
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, tiles * n - x.shape[-2]), (0, 0)])
    x = jnp.broadcast_to(x, (*lead, *x.shape[-2:]))
    return x.reshape(*lead[:-2], -1, n, x.shape[-1])


def _half(x, which, run, kinds):
    """The early (0) or late (1) of every two runs of tiles (..., N, kinds n, K): (..., N / 2 run, kinds run n, K)."""
    x = x.reshape(*x.shape[:-3], -1, 2, run, kinds, x.shape[-2] // kinds, x.shape[-1])[..., which, :, :, :, :]
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*x.shape[:-4], -1, x.shape[-1])


def _unfold(scores, kinds):
    """(..., P n, R n) as (..., P, n, R, n)."""
    queries, keys = kinds
    return scores.reshape(*scores.shape[:-2], queries, scores.shape[-2] // queries, keys, scores.shape[-1] // keys)


def _join(scores, across):
    """[early 0; across late] of the scores of every two blocks and those between them."""
    blocks = scores.reshape(*scores.shape[:-5], -1, 2, *scores.shape[-4:])
    early, late = blocks[..., 0, :, :, :, :], blocks[..., 1, :, :, :, :]
    above = jnp.concatenate([early, jnp.zeros_like(across)], axis=-1)
    return jnp.concatenate([above, jnp.concatenate([across, late], axis=-1)], axis=-3)


def _doublings(size):
    """1, 2, 4, ... size / 2."""
    return [1 << i for i in range(size.bit_length() - 1)]


def _power_of_two(size):
    """The next one, `size` or larger."""
    return 1 << (size - 1).bit_length()
