"""Why `ops.causal_attention` takes queries in blocks, and single ones read only the slots in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.benchmark.timing import device, medians
from jaxseq.ops import causal_attention as op

BATCH, TIME, HEADS, WIDTH = 2, 1024, 4, 64
SLOTS, LENGTHS = 2048, (64, 512, 2048)


def attention(repeats: int = 9) -> Iterator[dict[str, Any]]:
    """Rows for (B, T, H, K) = (2, 1024, 4, 64) in float32: the time in 2 to 16 blocks over that in one, forward, and
    forward and backward; and for a token's read of a ring of 2048 slots, of which so many are in use, over that of all.
    """
    for way, program in (("forward", _forward), ("forward+backward", _gradient)):
        times = medians({str(n): _in_blocks(n, program) for n in (1, 2, 4, 8, 16)}, repeats)
        yield _row(way, "blocks", times, times.pop("1"))
    times = medians({"all": _ring(1, SLOTS)} | {str(n): _ring(n, op.FEWEST) for n in LENGTHS}, repeats)
    yield _row("decode", "slots in use", times, times.pop("all"))


def _row(way: str, of: str, times: dict[str, float], whole: float) -> dict[str, Any]:
    ratios = {name: round(time / whole, 2) for name, time in times.items()}
    return {"benchmark": "attention", "way": way, "device": device(), f"time_by_{of.replace(' ', '_')}": ratios}


def _in_blocks(count: int, program: Callable[..., Any]) -> Callable[[], Any]:
    q, k, v = (_drawn(i, BATCH, TIME) for i in range(3))
    place = jnp.broadcast_to(jnp.arange(TIME), (BATCH, TIME))
    at = op.Tokens(place, jnp.zeros_like(place))
    run = jax.jit(partial(program, TIME // count))
    return lambda: run(q, k, v, at)


def _forward(block: int, q: jax.Array, k: jax.Array, v: jax.Array, at: op.Tokens) -> jax.Array:
    keys = op.Keys(jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2), at)
    return op.causal_attention(q, at, keys, TIME, dense=True, block=block)


def _gradient(block: int, q: jax.Array, k: jax.Array, v: jax.Array, at: op.Tokens) -> Any:
    return jax.grad(lambda q, k, v: jnp.sum(jnp.square(_forward(block, q, k, v, at))), (0, 1, 2))(q, k, v)


def _ring(length: int, fewest: int) -> Callable[[], Any]:
    slot = jnp.arange(SLOTS)[None]
    at = op.Tokens(jnp.where(slot < length, slot, -1), jnp.zeros_like(slot))
    k, v = (jnp.swapaxes(_drawn(i, 1, SLOTS), 1, 2) for i in range(2))
    ring, q = op.Keys(k, v, at), _drawn(2, 1, 1)
    mine = op.Tokens(jnp.full((1, 1), length - 1), jnp.zeros((1, 1), slot.dtype))
    run = jax.jit(partial(op.ring_attention, window=SLOTS, dtype=jnp.float32, fewest=fewest))
    return lambda: run(q, mine, ring)


def _drawn(seed: int, rows: int, time: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (rows, time, HEADS, WIDTH))
