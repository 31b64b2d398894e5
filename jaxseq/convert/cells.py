"""Cells to and from the state dicts of other libraries."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxseq.cells import Cell
from jaxseq.convert import pararnn, torch_cells, torchrecurrent
from jaxseq.convert.layout import Layout, StateDict
from jaxseq.ops.checks import check_choice

LAYOUTS: dict[str, Layout] = {**pararnn.LAYOUTS, **torch_cells.LAYOUTS, **torchrecurrent.LAYOUTS}


def cell_from_state_dict(layout: str, state_dict: StateDict) -> tuple[Cell, dict[str, jax.Array]]:
    """A cell and its parameters from another library's tensors.

    Args:
      layout: a name in LAYOUTS: which library and class the state dict is of.
      state_dict: its tensors (torch's or numpy's) by name.

    Returns:
      The cell, with sizes read from the shapes and defaults for what tensors do not say (which nonlinearity, which
      step size: `dataclasses.replace` the cell's fields), and its parameters in the tensors' precision or, without
      jax's 64-bit mode, float32.

    Raises:
      ValueError: an unknown layout; a missing, unexpected or wrongly shaped tensor, by its name.
    """
    check_choice("layout", layout, tuple(LAYOUTS))
    return LAYOUTS[layout].read(state_dict)


def cell_to_state_dict(layout: str, cell: Cell, params: Any) -> dict[str, np.ndarray]:
    """Another library's state dict, as numpy arrays, of a cell: `cell_from_state_dict` gives the same parameters back.

    Args:
      layout: a name in LAYOUTS.
      cell: of the class that the layout is for.
      params: the cell's parameters.

    Raises:
      ValueError: an unknown layout, a cell that it cannot hold.
    """
    check_choice("layout", layout, tuple(LAYOUTS))
    return LAYOUTS[layout].write(cell, params)
