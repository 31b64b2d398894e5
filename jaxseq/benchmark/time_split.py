"""Scans whose time is split over all chips of a topology: what they exchange, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxseq.ops import sharded
from jaxseq.sharding import make_mesh

BATCH, WIDTH, HEADS, KEYS = 1, 256, 2, 64
ROWS, HEAD = (WIDTH,), (HEADS, KEYS)
# name: (function, what follows (B, T) in every argument with a time axis)
SCANS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "linear_scan": (sharded.linear_scan, (ROWS, ROWS)),
    "block_scan": (sharded.block_scan, ((64, 4, 4), (64, 4))),
    "linear_attention": (sharded.linear_attention, (HEAD, HEAD, HEAD, (HEADS,))),
    "delta_rule": (sharded.delta_rule, (HEAD, HEAD, HEAD, (HEADS,))),
}


def split_scan(name: str, devices: Any, time: int) -> Any:
    """The compiled program of a scan of `SCANS` and its gradients, float32, T = `time` split over all devices."""
    function, rest = SCANS[name]
    return compile_split(function, devices, [(BATCH, time, *x) for x in rest])


def partitioned_scan(devices: Any, time: int) -> Any:
    """The same of `lax.associative_scan` as it stands, left to XLA's own partitioning."""

    def plain(a, b):
        return lax.associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (a, b), axis=1)[1]

    return compile_split(plain, devices, [(BATCH, time, WIDTH)] * 2)


def compile_split(function: Callable[..., Any], devices: Any, shapes: list[tuple[int, ...]]) -> Any:
    """function(*arrays) and the gradients of its results, compiled for arrays of these shapes with time split."""
    mesh = make_mesh((1, 1, 1, len(devices)), list(devices))
    place = NamedSharding(mesh, PartitionSpec(None, "seq"))

    def both(*args):
        results, pull = jax.vjp(function, *args)
        return results, pull(jax.tree.map(jnp.cos, results))

    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place) for shape in shapes]
    with jax.set_mesh(mesh):
        return jax.jit(both).lower(*arrays).compile()
