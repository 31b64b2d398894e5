"""SIGTERM and Ctrl-C as a request: finish the step, save, leave. With several processes, all after the same step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils  # JAX's preemption service has no other public place


class Stop:
    """A context in which SIGTERM and SIGINT set `requested` to the signal's name; a second one acts as usual.

    With several processes, SIGTERM to any of them is JAX's to notice (`jax.distributed.initialize` puts a handler in
    place), and `reached` is True in all processes after the same step. SIGINT is passed on as SIGTERM.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        numbers = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGTERM, signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *exc: Any) -> None:
        self._restore()

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`. With several processes, each must ask after every step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.requested = "SIGTERM"
        return self.requested is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.requested = signal.Signals(number).name

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
