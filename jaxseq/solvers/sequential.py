"""One step after another: the definition, the fallback, and on CPU mostly the fastest forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import at, over_time, put, unless, where
from jaxseq.ops.cell_scan import cell_scan
from jaxseq.ops.march import march
from jaxseq.solvers.heads import Heads
from jaxseq.solvers.iterate import Certificate, certify_steps
from jaxseq.solvers.solution import Status
from jaxseq.solvers.system import System, length

METHODS = ("auto", "loop", "kernel")


@dataclass(frozen=True)
class Sequential:
    """Steps through time. Exact, with depth T; `converged` says that every state is finite.

    Attributes:
      method: "loop" (in place, any cell), "kernel" (`cell_scan`'s fused pass, for channels that do not mix), or "auto":
        `cell_scan` with its own choice where the cell's structure and inputs allow it, the loop elsewhere.
    """

    method: str = "auto"
    linear_method: ClassVar[str] = "auto"  # of the linear recurrence of the derivatives

    def run(self, cell: Any, system: System, guess: Any = None) -> tuple[Any, Certificate]:
        """All states of the system, one step at a time."""
        h = self._states(cell, system)
        return h, certify_steps(h, jnp.zeros(jax.tree.leaves(h)[0].shape[0], jnp.int32), Status.CONVERGED)

    def steps(self, cell: Any) -> bool:
        """Whether states that mix are stepped through, so that nothing needs their Jacobians."""
        return isinstance(cell.structure, Heads)

    def _states(self, cell: Any, system: System) -> Any:
        params, u, h0, reset, mask, _ = system
        fits = is_channelwise(cell, system)
        if self.method == "kernel" and not fits:
            raise ValueError(f"method 'kernel' of Sequential needs a channelwise cell, and u of h's shape: got {cell}")
        if self.method == "loop" or not fits:
            return march(lambda h, u: cell.step(params, h, u), u, h0, reset, mask)
        dtype = jax.tree.leaves(h0)[0].dtype
        wide = jax.tree.map(lambda x: x.astype(dtype), u)
        return cell_scan(cell.step, params, wide, h0, reset=reset, mask=mask, method=self.method)

    def __post_init__(self) -> None:
        if self.method not in METHODS and not self.method.startswith("interpret:"):
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")


def complete(cell: Any, system: System, h: Any, rows: jax.Array, start: jax.Array) -> Any:
    """h with the steps from `start` (B,) on stepped through again, in those `rows` (B,) alone."""
    time = length(system)

    def body(carry):
        t, h = carry
        last = jax.tree.map(lambda x, x0: jnp.where(t == 0, x0, at(x, jnp.maximum(t - 1, 0))), h, system.h0)
        last = unless(at(system.reset, t), last)
        after = where(at(system.mask, t), cell.step(system.params, last, at(system.u, t)), last)
        chosen = rows & (start <= t)
        new = jax.tree.map(lambda x, y: jnp.where(over_time(chosen, x), x, y), after, at(h, t))
        return t + 1, put(h, new, t)

    first = jnp.min(jnp.where(rows, start, time))
    return lax.while_loop(lambda carry: carry[0] < time, body, (first, h))[1]


def is_channelwise(cell: Any, system: System) -> bool:
    """Whether no channel of the cell mixes with another and u has the shape of the states, as fused kernels need."""
    state = jax.tree.leaves(system.h0)
    wanted = (state[0].shape[0], length(system), *state[0].shape[1:])
    real = all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves((system.u, system.h0)))
    shaped = len(wanted) == 3 and all(x.shape == wanted for x in jax.tree.leaves(system.u))
    return not isinstance(cell.structure, Heads) and real and shaped
