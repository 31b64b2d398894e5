"""Attention to the earlier tokens of a document, a block of queries at a time.

No token sees a later one, so a block of queries needs the keys up to its own end only: of the T x T scores, n blocks
compute the share (n + 1) / 2n. The backward pass computes a block's weights again, and only one block's are kept at a
time. On 2 CPU cores, float32, (B, T, H, K) = (2, 1024, 4, 64), forward and backward take half as long in 8 blocks as in
one (`python launch/benchmark.py attention`).

Positions count a document's valid tokens from 0. Keys with position -1 are seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.attention_weights import softmax_weights
from jaxseq.ops.placement import splits
from jaxseq.ops.remat import saved

BLOCKS, SMALLEST = 8, 128  # how many blocks of queries a sequence has at most, and how many queries a block at least
FEWEST = 256  # slots that a single query reads, of those that a ring has

Weigh = Callable[[jax.Array, jax.Array, int], jax.Array]  # scores, which keys are seen, K -> weights


class Tokens(NamedTuple):
    """Where tokens are: `position` in their document and which `document` it is, (B, T) int32 each."""

    position: jax.Array
    document: jax.Array


class Keys(NamedTuple):
    """What may be seen: k and v (B, G, S, K) and their places (B, S)."""

    k: jax.Array
    v: jax.Array
    at: Tokens


def causal_attention(
    q: jax.Array,
    at: Tokens,
    keys: Keys,
    window: int,
    weigh: Weigh = softmax_weights,
    *,
    dense: bool = False,
    block: int | None = None,
) -> jax.Array:
    """Σ_s weigh(q_t · k_s) v_s over the `window` tokens of t's document that end with t: (B, T, H, K) in v's dtype.

    Args:
      q: (B, T, H, K); head h uses key head h // (H / G).
      at: where the queries are.
      keys: S keys, of which the last T belong to the queries' own tokens, and those before them to earlier ones.
      window: how many tokens a query sees, itself included.
      weigh: makes weights of scores.
      dense: the T tokens are all valid, so no key of these that is `window` or more steps back is ever seen.
      block: how many queries a block has; by default an eighth of T, or 128 if that is less. All, if the devices of a
        mesh split time.

    Sums and weights are in float32 or wider, and y is finite for a query that sees nothing. A NaN or inf in v makes
    NaN of the queries that see it and of no others, so one document's does not spread to its neighbours in a row.
    """
    time, past = q.shape[1], keys.k.shape[2] - q.shape[1]
    size = time if splits("seq", time) else block or max(SMALLEST, -(-time // BLOCKS))
    run = partial(_attend, window=window, weigh=weigh)
    if size >= time:
        return saved(run(q, at, keys))

    def part(start: int) -> jax.Array:
        stop, oldest = min(start + size, time), start - window + 1
        first = past + oldest if dense and oldest >= 0 else 0
        queries = jax.tree.map(lambda x: x[:, start:stop], (q, at))
        return jax.checkpoint(run)(*queries, _part(keys, first, past + stop))

    # Blocks are made again in the backward pass: not by a layer that is rematerialised once more.
    return saved(jnp.concatenate([part(start) for start in range(0, time, size)], axis=1))


def ring_attention(
    q: jax.Array,
    at: Tokens,
    ring: Keys,
    window: int,
    weigh: Weigh = softmax_weights,
    *,
    dtype: Any,
    fewest: int = FEWEST,
) -> jax.Array:
    """`causal_attention` of one token per row that is in the ring already, position p of its document in slot p mod S.

    A ring fills from its first slot on: of `fewest` slots, twice as many, ... S, what holds all positions is read.
    They take `dtype`, which y has.
    """
    slots = ring.k.shape[2]
    sizes = [n for n in (fewest << i for i in range(slots.bit_length())) if n < slots] + [slots]

    def read(size: int) -> Callable[[Keys], jax.Array]:
        def attended(ring: Keys) -> jax.Array:
            k, v, places = _part(ring, 0, size)
            return _attend(q, at, Keys(k.astype(q.dtype), v.astype(dtype), places), window, weigh)

        return attended

    enough = jnp.searchsorted(jnp.asarray(sizes), jnp.max(at.position) + 1)
    return lax.switch(jnp.minimum(enough, len(sizes) - 1), [read(n) for n in sizes], ring)


def visible(at: Tokens, keys: Tokens, window: int) -> jax.Array:
    """(B, T, S) bool: the key is of the query's document and one of the `window` tokens that end there."""
    distance = at.position[:, :, None] - keys.position[:, None]
    near = (distance >= 0) & (distance < window) & (keys.position >= 0)[:, None]
    return near & (at.document[:, :, None] == keys.document[:, None])


def _part(keys: Keys, start: int, stop: int) -> Keys:
    at = jax.tree.map(lambda x: x[:, start:stop], keys.at)
    return Keys(keys.k[:, :, start:stop], keys.v[:, :, start:stop], at)


def _attend(q: jax.Array, at: Tokens, keys: Keys, window: int, weigh: Weigh) -> jax.Array:
    """All queries at once, heads before time: so no operand of a matmul is transposed, on CPU by a copy."""
    k, v, seen = keys.k, keys.v, visible(at, keys.at, window)
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    sound = jnp.all(jnp.isfinite(v), axis=(1, 3))
    v = jnp.where(sound[:, None, :, None], v, 0)  # 0 · NaN would reach every query
    grouped = jnp.swapaxes(q, 1, 2).reshape(q.shape[0], k.shape[1], -1, *q.shape[1::2])
    scores = jnp.einsum("bgrtk,bgsk->bgrts", grouped, k, preferred_element_type=dtype)
    weight = weigh(scores, seen[:, None, None], q.shape[3]).astype(v.dtype)
    y = jnp.einsum("bgrts,bgsk->bgrtk", weight, v, preferred_element_type=dtype).astype(v.dtype)
    y = jnp.swapaxes(y.reshape(q.shape[0], q.shape[2], *q.shape[1::2]), 1, 2)
    broken = jnp.any(seen & ~sound[:, None], axis=2)
    return jnp.where(broken[..., None, None], jnp.nan, y)
