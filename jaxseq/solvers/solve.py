"""The front door: states of any recurrence, by any solver, with exact gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxseq.ops.checks import accumulation_dtype, check_bool
from jaxseq.solvers.adjoint import adjoint
from jaxseq.solvers.newton import Newton
from jaxseq.solvers.sequential import Sequential
from jaxseq.solvers.solution import Solution
from jaxseq.solvers.system import System

SAVED = "recurrence"  # the checkpoint name of solved states, for remat policies


def solve(
    cell: Any,
    params: Any,
    u: Any,
    h0: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    solver: Newton | Sequential | None = None,
) -> Solution:
    """All states of h_t = cell.step(params, h_{t-1}, u_t).

    Args:
      cell: an object with `step(params, h, u) -> h`, which broadcasts over leading axes, `init_state(batch)`, and
        `structure`, the shape of dstep/dh.
      params: pytree of arrays.
      u: pytree of inputs with leaves (B, T, ...), as `cell.inputs` makes them.
      h0: state before the first step (B, *state); `cell.init_state(B)` if None.
      reset: (B, T) bool, True where a document starts: the state before that step is zero.
      mask: (B, T) bool, False at padding: the state passes through unchanged.
      solver: `Newton(...)` (the default) or `Sequential()`. A single step is simply taken.

    Returns:
      Solution with h (B, T, *state) in float32 or wider. Differentiable in params, u and h0 through `h` and `final`.

    Raises:
      ValueError: shapes that do not fit, a step that changes the state's shape or dtype, an unknown solver.
    """
    solver = Newton() if solver is None else solver
    batch, time = _sizes(u)
    start: jax.Array = cell.init_state(batch) if h0 is None else h0
    start = start.astype(accumulation_dtype(start, *jax.tree.leaves(u)))
    _check(cell, params, u, start, reset, mask, solver)
    solution: Any = _solve(cell, Sequential() if time == 1 else solver, System(params, u, start, reset, mask))
    return solution


def _sizes(u: Any) -> tuple[int, int]:
    shapes = [jnp.shape(x) for x in jax.tree.leaves(u)]
    if not shapes or any(len(s) < 2 or s[:2] != shapes[0][:2] for s in shapes) or shapes[0][1] < 1:
        raise ValueError(f"u must have leaves of shape (B, T, ...) with one B and one T >= 1, got {shapes}")
    return shapes[0][0], shapes[0][1]


def _check(cell: Any, params: Any, u: Any, h0: jax.Array, reset: Any, mask: Any, solver: Any) -> None:
    if not hasattr(solver, "run"):
        raise ValueError(f"solver must be Newton(...) or Sequential(), got {solver!r}")
    batch, time = _sizes(u)
    check_bool(reset=reset, mask=mask)
    for name, flag in (("reset", reset), ("mask", mask)):
        if flag is not None and flag.shape != (batch, time):
            raise ValueError(f"{name} must have shape (B, T) = {(batch, time)}, got {flag.shape}")
    wanted = jax.eval_shape(lambda: cell.init_state(batch)).shape
    if h0.shape != wanted:
        raise ValueError(f"h0 must have shape {wanted}, got {h0.shape}")
    after = jax.eval_shape(cell.step, params, h0, jax.tree.map(lambda x: x[:, 0], u))
    if (after.shape, after.dtype) != (h0.shape, h0.dtype):
        raise ValueError(
            f"{type(cell).__name__}.step must return a state like the one it takes, {h0.shape} {h0.dtype}, "
            f"got {after.shape} {after.dtype}"
        )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _solve(cell: Any, solver: Any, system: System) -> Solution:
    return solver.run(cell, system)


def _solve_forward(cell: Any, solver: Any, system: System) -> tuple[Solution, tuple[System, jax.Array]]:
    solution = solver.run(cell, system)
    h = checkpoint_name(solution.h, SAVED)
    return Solution(h, h[:, -1], solution.iterations, solution.residual, solution.converged), (system, h)


def _solve_backward(cell: Any, solver: Any, saved: tuple[System, jax.Array], g: Solution) -> tuple[System]:
    system, h = saved
    dh = g.h.at[:, -1].add(g.final)
    return (System(*adjoint(cell, system, h, dh), None, None),)


_solve.defvjp(_solve_forward, _solve_backward)
