"""h_t = f(h_{t-1}, u_t) for all t at once."""

from jaxseq.solvers.auto import Auto, explain
from jaxseq.solvers.check import check_cell
from jaxseq.solvers.fused import FusedNewton
from jaxseq.solvers.heads import Dense, Heads
from jaxseq.solvers.newton import DampedNewton, FixedPoint, Newton, QuasiNewton
from jaxseq.solvers.rtrl import rtrl
from jaxseq.solvers.sequential import Sequential
from jaxseq.solvers.solution import Solution, Status
from jaxseq.solvers.solve import solve
from jaxseq.solvers.structure import Block, Diagonal

__all__ = [
    "Auto",
    "Block",
    "DampedNewton",
    "Dense",
    "Diagonal",
    "FixedPoint",
    "FusedNewton",
    "Heads",
    "Newton",
    "QuasiNewton",
    "Sequential",
    "Solution",
    "Status",
    "check_cell",
    "explain",
    "rtrl",
    "solve",
]
