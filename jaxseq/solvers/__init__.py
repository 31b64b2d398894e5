"""h_t = f(h_{t-1}, u_t) for all t at once."""

from jaxseq.solvers.check import check_cell
from jaxseq.solvers.newton import Newton
from jaxseq.solvers.sequential import Sequential
from jaxseq.solvers.solution import Solution
from jaxseq.solvers.solve import solve
from jaxseq.solvers.structure import Diagonal

__all__ = ["Diagonal", "Newton", "Sequential", "Solution", "check_cell", "solve"]
