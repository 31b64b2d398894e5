"""A layout: how one library names, orders and shapes the tensors of a cell's state dict.

A file of this folder has a table LAYOUTS of them by name. `take` reads a state dict against the shapes expected, and
finds the sizes on the way; what is missing, unexpected or wrongly shaped is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxseq.cells import Cell

StateDict = Mapping[str, Any]
Params = dict[str, jax.Array]
Dim = int | str | tuple[int, str]  # a size, the name of one, or so many of it stacked: 3, "d_state", (3, "d_state")


class Layout(NamedTuple):
    """How to read a state dict, and how to write the same one.

    Attributes:
      read: state dict -> (cell, params), the cell's sizes from the tensors' shapes; ValueError by a tensor's name.
      write: (cell, params) -> state dict of numpy arrays that `read` takes back without a change.
    """

    read: Callable[[StateDict], tuple[Cell, Params]]
    write: Callable[[Cell, Params], dict[str, np.ndarray]]


def take(state_dict: StateDict, shapes: Mapping[str, tuple[Dim, ...]]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The tensors of `state_dict` as numpy arrays, and the sizes that the named dimensions of `shapes` have in them.

    Args:
      state_dict: tensors (torch's or numpy's) by name.
      shapes: every tensor's expected shape by name; a dimension is a number, a name, or (number, name) for a multiple.

    Raises:
      ValueError: a tensor is missing, not expected, or does not have its shape; a name stands for two sizes.
    """
    if missing := [name for name in shapes if name not in state_dict]:
        raise ValueError(f"state_dict must have the tensor {missing[0]}, got {', '.join(state_dict) or 'none'}")
    if unexpected := [name for name in state_dict if name not in shapes]:
        raise ValueError(f"state_dict must have {', '.join(shapes)} alone, got the tensor {unexpected[0]}")
    sizes: dict[str, int] = {}
    arrays = {name: to_numpy(state_dict[name]) for name in shapes}
    for name, shape in shapes.items():
        _match(name, arrays[name].shape, shape, sizes)
    return arrays, sizes


def to_numpy(tensor: Any) -> np.ndarray:
    """A copy of a tensor of torch, jax or numpy that may be written to; torch's bfloat16 comes back as float32."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return np.array(tensor)


def _match(name: str, found: tuple[int, ...], expected: tuple[Dim, ...], sizes: dict[str, int]) -> None:
    """Enters the sizes that a tensor's shape gives to new names; refuses a shape that is not the expected one."""
    fits = len(found) == len(expected)
    for size, dim in zip(found, expected, strict=False):
        times, symbol = dim if isinstance(dim, tuple) else (1, dim)
        if isinstance(symbol, str):
            fits = fits and size % times == 0 and size // times == sizes.setdefault(symbol, size // times)
        else:
            fits = fits and size == symbol
    if not fits:
        wanted = ", ".join(f"{d[0]} {d[1]}" if isinstance(d, tuple) else str(d) for d in expected)
        known = ", ".join(f"{symbol} = {size}" for symbol, size in sizes.items() if symbol in wanted)
        raise ValueError(f"{name} must be ({wanted}){known and f' with {known}'}, got shape {found}")
