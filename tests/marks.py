"""Which cases of a test run by default."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(kept: Any, values: Iterable[Any]) -> list[Any]:
    """Values for `pytest.mark.parametrize`, all but `kept` marked slow, so that the default suite stays quick."""
    values = list(values)
    assert kept in values
    return [x if x == kept else _slow(x) for x in values]


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
