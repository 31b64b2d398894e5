"""Runs a benchmark by name with the options that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from jaxseq.benchmark import BENCHMARKS


def run(name: str, **options: Any) -> Iterator[dict[str, Any]]:
    """The rows of BENCHMARKS[name], called with those of `options` that are not None.

    Raises ValueError for another name, and for an option that the benchmark does not take.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark must be one of {', '.join(BENCHMARKS)}, got {name!r}")
    given = {key: value for key, value in options.items() if value is not None}
    takes = inspect.signature(BENCHMARKS[name]).parameters
    if unknown := [key for key in given if key not in takes]:
        raise ValueError(f"benchmark {name} must be run without --{unknown[0]}, got --{unknown[0]}={given[unknown[0]]}")
    return BENCHMARKS[name](**given)
