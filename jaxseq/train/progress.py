"""What a run says while it runs: one live line on a terminal, plain lines elsewhere, from process 0 alone."""

from __future__ import annotations

import sys
from typing import Any

import jax


class Progress:
    """Shows metrics of steps out of `total`, and notes between them."""

    def __init__(self, total: int, done: int = 0):
        self._total = total
        self._speaks = jax.process_index() == 0
        self._live = _live(total, done) if self._speaks and sys.stdout.isatty() else None

    def show(self, row: dict[str, Any], seconds_left: float) -> None:
        """The metrics of a step, as `describe` puts them."""
        text = describe(row)
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=row["step"], text=text, left=clock(seconds_left))
        elif self._speaks:
            print(f"step {row['step']}/{self._total}  {text}  ETA {clock(seconds_left)}", flush=True)

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif self._speaks:
            print(text, flush=True)

    def close(self) -> None:
        """Leaves the last live line on the screen."""
        if self._live is not None:
            self._live.stop()


def describe(row: dict[str, Any]) -> str:
    """A row of metrics.jsonl in one line."""
    parts = [f"loss {row['loss']:.4f}", f"{row['bits_per_byte']:.3f} bits/byte"]
    if "validation_bits_per_byte" in row:
        parts.append(f"validation {row['validation_bits_per_byte']:.3f}")
    parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    if "iterations" in row:
        parts.append(f"newton {row['iterations']:.1f} it, {100 * row['converged']:.0f}% converged")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _live(total: int, done: int) -> Any:
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Live
    except ModuleNotFoundError:  # the extra `terminal` is not installed: plain lines
        return None
    fields = TextColumn("ETA {task.fields[left]}  {task.fields[text]}")
    live = Live(BarColumn(20), MofNCompleteColumn(), fields)
    live.add_task("train", total=total, completed=done, text="compiling", left="-")
    live.start()
    return live
