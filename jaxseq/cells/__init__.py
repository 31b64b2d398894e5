"""Nonlinear cells, by name."""

from jaxseq.cells.base import Cell
from jaxseq.cells.paragru import ParaGRU
from jaxseq.solvers.structure import Diagonal

CELLS: dict[str, type[Cell]] = {
    "para_gru": ParaGRU,
}

__all__ = ["CELLS", "Cell", "Diagonal"]
