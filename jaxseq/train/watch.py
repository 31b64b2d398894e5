"""What a run can be watched by: its pace, where time goes beside the steps, which data it saw, and traces."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


class Meter:
    """Pace since the last log, without evaluations and saves, and the time those and the data took."""

    def __init__(self) -> None:
        self._rate, self._step, self._wait = 0.0, 0.0, 0.0
        self._saves: list[float] = []
        self._restart()

    def _restart(self) -> None:
        self._since, self._tokens, self._steps, self._waited = time.perf_counter(), 0.0, 0, 0.0

    @contextmanager
    def apart(self, save: bool = False) -> Iterator[None]:
        """What happens inside is no part of the pace; of a save, its time is reported."""
        began = time.perf_counter()
        yield
        passed = time.perf_counter() - began
        self._since += passed
        if save:
            self._saves.append(passed)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The host waits for data inside."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def count(self, tokens: float) -> None:
        """One more step, with so many targets."""
        self._tokens, self._steps = self._tokens + tokens, self._steps + 1

    def read(self) -> dict[str, float]:
        """tokens_per_second, of that for each device, data_wait (share of the time), and save_seconds (after a save):
        how long the last one held up the run.
        """
        if self._steps:
            passed = time.perf_counter() - self._since
            self._rate, self._step, self._wait = self._tokens / passed, passed / self._steps, self._waited / passed
            self._restart()
        pace = {
            "tokens_per_second": self._rate,
            "tokens_per_second_per_device": self._rate / jax.device_count(),
            "data_wait": self._wait,
        }
        saves, self._saves = self._saves, []
        return pace | ({"save_seconds": saves[-1]} if saves else {})

    def seconds_per_step(self) -> float:
        """At the last reading."""
        return self._step


class Tracer:
    """Writes a JAX trace of steps start + 1 to stop into a folder."""

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self._folder, self._steps, self._runs = folder, steps, False

    def before(self, step: int) -> None:
        """To be called with the number of steps done, before the next."""
        if self._steps and not self._runs and self._steps[0] <= step < self._steps[1]:
            jax.profiler.start_trace(str(self._folder))
            self._runs = True
        elif self._steps and self._runs and step >= self._steps[1]:
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way."""
        if self._runs:
            jax.profiler.stop_trace()
            self._runs = False


def steps_of(text: str | None) -> tuple[int, int] | None:
    """ "100:105" as (100, 105). Raises ValueError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise ValueError(f"profile must be START:STOP with START < STOP, got {text!r}")
    return int(found[1]), int(found[2])


def batch_digest(batch: dict[str, jax.Array]) -> jax.Array:
    """() uint32: tokens (B, T+1), reset and weight (B, T) of a global batch, the same however it is split over devices.

    The sum, modulo 2³², of every entry times an odd number drawn from its place: other entries, or another order,
    give another number but for one chance in about 2³¹.
    """
    return _digest(batch)


@jax.jit
def _digest(batch: dict[str, jax.Array]) -> jax.Array:
    total = jnp.zeros((), jnp.uint32)
    for i, name in enumerate(sorted(batch)):
        x = batch[name].astype(jnp.uint32)
        row, column = (lax.broadcasted_iota(jnp.uint32, x.shape, axis) for axis in (0, 1))
        total += jnp.sum(x * (2 * _mix(_mix(row * 64 + i) ^ column) + 1), dtype=jnp.uint32)
    return total


def _mix(x: jax.Array) -> jax.Array:
    """A permutation of 32 bits without pattern: multiplications, and shifts that bring high bits down."""
    for multiplier, shift in ((0x9E3779B1, 15), (0x85EBCA77, 13)):
        x = x * jnp.uint32(multiplier)
        x = x ^ (x >> shift)
    return x


def as_text(digest: Any) -> str:
    """Eight hex digits."""
    return f"{int(digest):08x}"
