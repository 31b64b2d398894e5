"""Why the sequential scan runs in place, and why a cell's inputs are one array per gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.benchmark.timing import device, medians
from jaxseq.cells.paragru import ParaGRU
from jaxseq.ops import linear_scan, reference
from jaxseq.solvers import Sequential, solve

SHAPES = ((8, 2048, 512), (32, 256, 384), (1, 16384, 256))


@dataclass(frozen=True)
class Stacked(ParaGRU):
    """ParaGRU whose step slices the three gates' inputs out of one array (..., 3, d_state)."""

    def step(self, params: Any, h: jax.Array, u: Any) -> jax.Array:
        """As ParaGRU's."""
        return super().step(params, h, (u[..., 0, :], u[..., 1, :], u[..., 2, :]))


def scan(repeats: int = 9) -> Iterator[dict[str, Any]]:
    """Per shape (B, T, D), float32, forward only: a linear scan by `lax.scan` over transposed arrays and by
    `lax.associative_scan`, over the in-place pass; and ParaGRU stepped with its gates in one array over one each.
    Deviations are the largest between the methods, relative to the largest entry.
    """
    for shape in SHAPES:
        row = {"benchmark": "scan", "shape": list(shape), "dtype": "float32", "device": device()}
        yield {**row, **_linear(shape, repeats), **_cell(shape, repeats)}


def _linear(shape: tuple[int, int, int], repeats: int) -> dict[str, float]:
    keys = jax.random.split(jax.random.key(0))
    a, b = jax.nn.sigmoid(jax.random.normal(keys[0], shape)), jax.random.normal(keys[1], shape)
    in_place, associative = (jax.jit(partial(linear_scan, method=method)) for method in ("sequential", "associative"))
    lax_scan = jax.jit(reference.linear_scan)
    run = {
        "in_place": lambda: in_place(a, b),
        "associative": lambda: associative(a, b),
        "lax_scan": lambda: lax_scan(a, b),
    }
    times, expected = medians(run, repeats), lax_scan(a, b)
    return {
        "lax_scan_over_in_place": round(times["lax_scan"] / times["in_place"], 2),
        "associative_over_in_place": round(times["associative"] / times["in_place"], 2),
        "linear_deviation": max(_deviation(function(), expected) for function in run.values()),
    }


def _cell(shape: tuple[int, int, int], repeats: int) -> dict[str, float]:
    keys = jax.random.split(jax.random.key(0), 4)
    gates = tuple(jax.random.normal(key, shape) for key in keys[1:])
    together = jnp.stack(gates, axis=2)
    apart, stacked = ParaGRU(shape[2], shape[2]), Stacked(shape[2], shape[2])
    params = apart.init(keys[0])
    step = jax.jit(lambda u: solve(apart, params, u, solver=Sequential()).h)
    step_stacked = jax.jit(lambda u: solve(stacked, params, u, solver=Sequential()).h)
    times = medians({"apart": lambda: step(gates), "stacked": lambda: step_stacked(together)}, repeats)
    return {
        "stacked_gates_over_one_array_each": round(times["stacked"] / times["apart"], 2),
        "cell_deviation": _deviation(step_stacked(together), step(gates)),
    }


def _deviation(value: jax.Array, expected: jax.Array) -> float:
    return float(jnp.max(jnp.abs(value - expected)) / jnp.max(jnp.abs(expected)))
