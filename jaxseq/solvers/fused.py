"""Newton in windows inside one fused TPU kernel, for few channels and many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxseq.ops.newton_scan import newton_scan
from jaxseq.solvers.iterate import Certificate
from jaxseq.solvers.sequential import is_channelwise
from jaxseq.solvers.solution import Status, largest_each_step, leading
from jaxseq.solvers.system import System, length


@dataclass(frozen=True)
class FusedNewton:
    """`newton_scan`: windows of time solved one after another in registers; what does not converge is stepped there.

    Attributes:
      tolerance: of the residual, see `newton_scan`.
      max_iterations: of a window, before it is stepped through.
      window: steps of a window; None for the kernel's own.
      method: "kernel" (TPU, float32), "interpret:tpu", or "auto".
    """

    tolerance: float = 1e-6
    max_iterations: int = 8
    window: int | None = None
    method: str = "auto"
    linear_method: ClassVar[str] = "auto"  # of the linear recurrence of the derivatives

    def run(self, cell: Any, system: System, guess: Any = None) -> tuple[Any, Certificate]:
        """The states of the system and their certificate. Raises ValueError for a cell whose channels mix, and
        for a tolerance given to `solve`.
        """
        params, u, h0, reset, mask, tolerance = system
        if tolerance is not None:
            raise ValueError("tolerance must be the solver's own for FusedNewton, whose kernel is compiled for it")
        if not is_channelwise(cell, system):
            raise ValueError(f"FusedNewton needs a channelwise cell, and u of the shape of h, got {cell}")
        dtype = jax.tree.leaves(h0)[0].dtype
        wide = jax.tree.map(lambda x: x.astype(dtype), u)
        options = {"tolerance": self.tolerance, "max_iterations": self.max_iterations, "window": self.window}
        h, stats = newton_scan(cell.step, params, wide, h0, reset=reset, mask=mask, method=self.method, **options)
        return h, _certificate(h, stats, length(system))


def _certificate(h: Any, stats: Any, time: int) -> Certificate:
    """What is finite is solved: the kernel steps through the windows that Newton does not solve."""
    finite = jnp.isfinite(largest_each_step(h))
    whole = jnp.all(finite, axis=1) & jnp.isfinite(stats.residual)
    solved = jnp.where(stats.stepped > 0, Status.FELL_BACK, Status.CONVERGED)
    status = jnp.where(whole, solved, Status.DIVERGED).astype(jnp.int32)
    return Certificate(stats.iterations, stats.residual, jnp.where(whole, time, leading(finite)), status)
