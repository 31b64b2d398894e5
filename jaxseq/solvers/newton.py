"""All states at once, by Newton's method in delta form.

    δ_t = J_t δ_{t-1} + F_t(h),  δ_0 = 0,      h <- h + δ

Each iteration is one evaluation of the cell over all steps and one linear scan. Solving for the increment, not for the
state, makes it iterative refinement: an error of the scan is corrected by the next residual. A cell that is linear in
its state needs one iteration; after k iterations the first k steps are exact whatever the cell.

The guess is h_t = step(0, u_t), as in ParaRNN (arXiv 2510.21450, appendix A.1). ParaRNN stops after 3 iterations
without looking; DEER (arXiv 2309.12252) stops on small steps. Here a sequence has converged when its residual is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import over_time
from jaxseq.solvers.solution import Solution, largest
from jaxseq.solvers.system import System, linearise, step


@dataclass(frozen=True)
class Newton:
    """Newton iterations until the residual of a sequence is at most tolerance · max(1, max |h|).

    A sequence that has converged is left alone, and one that is no longer finite is given up: neither drives nor
    touches the others. What did not converge is returned as it is, with `converged` False.

    Attributes:
      tolerance: bound on |step(h_{t-1}, u_t) - h_t|, relative to max |h| where that exceeds 1.
      max_iterations: the budget.
      method: the linear scan's method, see `linear_scan`.
    """

    tolerance: float = 1e-6
    max_iterations: int = 30
    method: str = "auto"

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {self.tolerance}")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}")

    def run(self, cell: Any, system: System) -> Solution:
        """Solves the system, with one certificate per sequence."""
        h, iterations, residual = self._iterate(cell, system, _guess(cell, system))
        return Solution(h, h[:, -1], iterations, residual, self._small(residual, h))

    def _iterate(self, cell: Any, system: System, h: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def active(h, iterations, residual):
            return jnp.isfinite(residual) & ~self._small(residual, h) & (iterations < self.max_iterations)

        def body(carry):
            h, iterations, residual, force, jac = carry
            on = active(h, iterations, residual)
            delta = cell.structure.scan(jac, force, method=self.method)
            h = jnp.where(over_time(on, h), h + delta, h)
            force, jac = linearise(cell, system, h)
            return h, iterations + on, largest(force), force, jac

        force, jac = linearise(cell, system, h)
        start = (h, jnp.zeros(h.shape[0], jnp.int32), largest(force), force, jac)
        return lax.while_loop(lambda c: jnp.any(active(*c[:3])), body, start)[:3]

    def _small(self, residual: jax.Array, h: jax.Array) -> jax.Array:
        size = largest(h)
        return jnp.isfinite(residual) & jnp.isfinite(size) & (residual <= self.tolerance * jnp.maximum(1, size))


def _guess(cell: Any, system: System) -> jax.Array:
    time = jax.tree.leaves(system.u)[0].shape[1]
    rest = jnp.zeros((system.h0.shape[0], time, *system.h0.shape[1:]), system.h0.dtype)
    return step(cell, system, rest)
