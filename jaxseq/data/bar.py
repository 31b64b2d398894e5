"""How far the preparation of data is, for a person who waits."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """Shards done, as one live line on a terminal (with rich), as plain lines elsewhere."""

    def __init__(self) -> None:
        self._live: Any = None
        self._last = (-1, -1)

    def __enter__(self) -> Bar:
        if sys.stdout.isatty():
            try:
                from rich.progress import Progress
            except ModuleNotFoundError:  # the extra `terminal` is not installed: plain lines
                return self
            self._live = Progress()
            self._live.add_task("shards")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, done: int, total: int) -> None:
        """So many of so many shards are whole."""
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=done, total=total)
        elif (done, total) != self._last:
            print(f"shards {done}/{total}", flush=True)
        self._last = (done, total)
