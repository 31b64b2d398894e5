"""Times of several functions, taken in turn in one process, so that a change of the machine's speed hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def medians(
    functions: dict[str, Callable[[], Any]], repeats: int, uncounted: int = 1, again: bool = False
) -> dict[str, float]:
    """Median seconds of each function over `repeats` rounds (A B A B ...), after so many that do not count.

    If `again`, each turn is two calls, of which the second counts: the first after another function's finds its memory
    gone, which takes up to twice as long as in a row.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(uncounted + repeats):
        for name, function in functions.items():
            if again:
                seconds(function)
            passed = seconds(function)
            if round_ >= uncounted:
                times[name].append(passed)
    return {name: statistics.median(values) for name, values in times.items()}


def seconds(function: Callable[[], Any]) -> float:
    """Seconds of one call, until its result is there."""
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def square_matmul(size: int = 2048, times: int = 4) -> tuple[Callable[[], Any], float]:
    """Float32 matrix products of that size, one after another, and their floating point operations.

    Several, because the first after other work is slower, which would flatter what is compared with it.
    """
    a = jax.random.normal(jax.random.key(0), (size, size)) * size**-0.5

    @jax.jit
    def power(a: jax.Array) -> jax.Array:
        y = a
        for _ in range(times):
            y = y @ a
        return y

    return lambda: power(a), 2.0 * times * size**3


def device() -> str:
    """The device a figure belongs to."""
    return f"{jax.devices()[0].device_kind} x {jax.device_count()}"
