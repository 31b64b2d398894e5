"""The results that remat policies keep because they are dear to make again."""

from __future__ import annotations

from typing import Any

from jax.ad_checkpoint import checkpoint_name

SAVED = "recurrence"  # their checkpoint name


def saved(x: Any) -> Any:
    """x, a tree of arrays, under that name."""
    return checkpoint_name(x, SAVED)
