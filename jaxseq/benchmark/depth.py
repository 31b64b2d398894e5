"""Seconds to the end of the first step against depth: layers are scanned, so they are compiled once."""

from __future__ import annotations

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
    first step of 2 and of 24 layers, and their ratio; width 128, and few tokens, so that the steps take little.
    """
    if mixer not in (*MIXERS, "all"):
        raise ValueError(f"mixer must be all or one of {', '.join(MIXERS)}, got {mixer!r}")
    for name in MIXERS if mixer == "all" else [mixer]:
        rounds = [(_first_step(name, SHALLOW), _first_step(name, DEEP)) for _ in range(repeats)]
        shallow, deep = map(min, zip(*rounds, strict=True))
        yield {
            "benchmark": "depth",
            "mixer": name,
            "device": device(),
            "seconds_of_2_layers": round(shallow, 2),
            "seconds_of_24_layers": round(deep, 2),
            "ratio": round(deep / shallow, 3),
        }


def _first_step(mixer: str, layers: int) -> float:
    jax.clear_caches()
    model = ModelConfig(width=128, layers=layers, pattern=(mixer,))
    return make_bench(model, rows=jax.device_count(), length=64).first_step
