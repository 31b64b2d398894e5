"""What differs between two configs, or between two runs: fields, and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxseq.checkpoint import read_config, read_model
from jaxseq.config import diff, load_config
from jaxseq.sharding import named


class Side(NamedTuple):
    """A config and, for a run with a checkpoint, its parameters by dotted name."""

    config: Any
    params: dict[str, np.ndarray] | None


def compare(a: str, b: str) -> list[str]:
    """The differences between two configs or runs, a line each; empty where there is none.

    Each of `a` and `b` is a config file (.py), a workdir (its latest checkpoint) or workdir/checkpoints/STEP.
    Parameters are compared where both sides have them. Raises OSError and ValueError as reading them does.
    """
    left, right = _open(a), _open(b)
    lines = [f"{path}: {before!r} -> {after!r}" for path, before, after in diff(left.config, right.config)]
    if left.params is not None and right.params is not None:
        lines += _compare_params(left.params, right.params)
    return lines


def _open(path: str) -> Side:
    if path.endswith(".py"):
        return Side(load_config(path), None)
    folder = Path(path)
    if folder.name.isdigit() and folder.parent.name == "checkpoints":
        config, _, params, _ = read_model(folder.parent.parent, int(folder.name))
        return Side(config, _named(params))
    if not (folder / "checkpoints").is_dir():
        return Side(read_config(folder), None)
    config, _, params, _ = read_model(folder)
    return Side(config, _named(params))


def _named(params: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in named(params).items()}


def _compare_params(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[str]:
    lines = [f"parameter {name}: only in the first" for name in a if name not in b]
    lines += [f"parameter {name}: only in the second" for name in b if name not in a]
    for name in a:
        if name in b and a[name].shape != b[name].shape:
            lines.append(f"parameter {name}: shape {a[name].shape} -> {b[name].shape}")
        elif name in b and not np.array_equal(a[name], b[name], equal_nan=True):
            lines.append(f"parameter {name}: largest difference {np.max(np.abs(a[name] - b[name])):.3g}")
    return lines
