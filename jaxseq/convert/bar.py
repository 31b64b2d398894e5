"""How far a conversion is, for a person who waits: tensors read and written, as a live line on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

Seen = Callable[[int, int], None]  # so many are done, of so many


def unseen(done: int, total: int) -> None:
    """Shows nothing."""


@contextmanager
def bar(what: str) -> Iterator[Seen]:
    """What shows how many are done after `what`; nothing where stdout is no terminal, or rich is not installed."""
    progress = _progress() if sys.stdout.isatty() else None
    if progress is None:
        yield unseen
        return
    with progress:
        yield partial(_show, progress, what)


T = TypeVar("T")


def each(items: Iterable[T], total: int, seen: Seen) -> Iterator[T]:
    """The items, with `seen` told of each that was taken."""
    for done, item in enumerate(items, start=1):
        yield item
        seen(done, total)


def counted(function: Callable[..., T], total: int, seen: Seen) -> Callable[..., T]:
    """The function, with `seen` told of each call that has returned."""
    numbers = iter(range(1, total + 1))

    def run(*args: Any) -> T:
        result = function(*args)
        seen(next(numbers), total)
        return result

    return run


def _show(progress: Any, what: str, done: int, total: int) -> None:
    if not progress.task_ids:
        progress.add_task(what)
    progress.update(progress.task_ids[0], completed=done, total=total)


def _progress() -> Any:
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:  # the extra `terminal` is not installed
        return None
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
