"""Seconds to the end of the first step against depth: layers are scanned, so they are compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from jaxseq.benchmark.setup import make_bench
from jaxseq.benchmark.timing import device
from jaxseq.model import ModelConfig


def depth(repeats: int = 3) -> Iterator[dict[str, Any]]:
    """One row per depth: the smallest of `repeats` times of trace, compilation and first step, and its ratio to that
    of two layers; a quickstart-shaped model with few tokens, so that the steps themselves take little.
    """
    best: dict[int, float] = {}
    for _ in range(repeats):
        for layers in (2, 6, 12, 24):
            jax.clear_caches()
            first = make_bench(ModelConfig(width=128, layers=layers), rows=jax.device_count(), length=64).first_step
            best[layers] = min(first, best.get(layers, first))
    for layers, passed in best.items():
        yield {
            "benchmark": "depth",
            "layers": layers,
            "device": device(),
            "first_step_seconds": round(passed, 2),
            "over_two_layers": round(passed / best[2], 3),
        }
