"""Seconds to the end of the first step against depth: layers are scanned, so they are compiled once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax

from jaxseq.benchmark.setup import make_bench
from jaxseq.benchmark.timing import device
from jaxseq.mixers import MIXERS
from jaxseq.model import ModelConfig

SHALLOW, DEEP = 2, 24


def depth(mixer: str = "para_rnn", repeats: int = 3) -> Iterator[dict[str, Any]]:
    """One row for the mixer, or for each if it is "all": the smallest of `repeats` times of trace, compilation and
    first step of 2 and of 24 layers, their ratio, and that of trace and compilation alone; width 128, few tokens.
    """
    if mixer not in (*MIXERS, "all"):
        raise ValueError(f"mixer must be all or one of {', '.join(MIXERS)}, got {mixer!r}")
    for name in MIXERS if mixer == "all" else [mixer]:
        rounds = [(*_seconds(name, SHALLOW), *_seconds(name, DEEP)) for _ in range(repeats)]
        shallow, shallow_compilation, deep, deep_compilation = map(min, zip(*rounds, strict=True))
        yield {
            "benchmark": "depth",
            "mixer": name,
            "device": device(),
            "seconds_of_2_layers": round(shallow, 2),
            "seconds_of_24_layers": round(deep, 2),
            "ratio": round(deep / shallow, 3),
            "ratio_of_compilation": round(deep_compilation / shallow_compilation, 3),
        }


def _seconds(mixer: str, layers: int) -> tuple[float, float]:
    """To the end of the first step, and of those trace and compilation, which a later step does not take."""
    jax.clear_caches()
    model = ModelConfig(width=128, layers=layers, pattern=(mixer,))
    bench = make_bench(model, rows=jax.device_count(), length=64)
    began = time.perf_counter()
    jax.block_until_ready(bench())
    return bench.first_step, bench.first_step - (time.perf_counter() - began)
