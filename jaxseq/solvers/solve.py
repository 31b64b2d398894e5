"""The front door: states of any recurrence, by any solver, with exact derivatives (see `tangent`).

The derivatives are exact where h solves the recurrence; where it does not, `Solution.converged` is False and the
gradient is off by the order of the residual.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxseq.ops.checks import accumulation_dtype, check_bool
from jaxseq.ops.remat import saved
from jaxseq.solvers.newton import Newton
from jaxseq.solvers.sequential import Sequential
from jaxseq.solvers.solution import Solution, Status, growth
from jaxseq.solvers.system import System, linearise
from jaxseq.solvers.tangent import STEPWISE, explicit, tangent


def solve(
    cell: Any,
    params: Any,
    u: Any,
    h0: Any = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    solver: Any = None,
    guess: Any = None,
    tolerance: Any = None,
) -> Solution:
    """All states of h_t = cell.step(params, h_{t-1}, u_t).

    Args:
      cell: an object with `step(params, h, u) -> h`, which broadcasts over leading axes, `init_state(batch)`, and
        `structure`, the shape of dstep/dh. States are one array (B, D) or a tuple of them.
      params: pytree of arrays.
      u: pytree of inputs with leaves (B, T, ...), as `cell.inputs` makes them.
      h0: state before the first step (B, D), or a tuple; `cell.init_state(B)` if None.
      reset: (B, T) bool, True where a document starts: the state before that step is zero.
      mask: (B, T) bool, False at padding: the state passes through unchanged.
      solver: `Newton(...)` (the default), `QuasiNewton`, `DampedNewton`, `FixedPoint`, `Sequential` or `Auto`. A single
        step is simply taken.
      guess: states (B, T, D) to start from, for instance those of the last training step; no gradient reaches them.
      tolerance: a number in place of the solver's own, see `Newton`. As an argument of a jitted function another one
        compiles nothing.

    Returns:
      Solution with h (B, T, D) in float32 or wider. Differentiable in params, u and h0 through `h` and `final`,
      forwards, backwards, and twice.

    Raises:
      ValueError: shapes that do not fit, a step that changes the state's shape or dtype, an unknown solver, a
        tolerance that is not one positive number.
      FloatingPointError: a sequence that did not converge, with `on_failure="raise"`.
    """
    solver = Newton() if solver is None else solver
    batch, time = _sizes(u)
    start = cell.init_state(batch) if h0 is None else h0
    dtype = accumulation_dtype(*jax.tree.leaves((start, u)))
    start = jax.tree.map(lambda x: jnp.asarray(x, dtype), start)
    _check(cell, params, u, start, reset, mask, solver, guess)
    system = System(params, u, start, reset, mask, _tolerance(tolerance, dtype))
    h, certificate = _solve(cell, Sequential() if time == 1 else solver, system, lax.stop_gradient(guess))
    if getattr(solver, "on_failure", "") == "raise":
        _raise_unless_converged(certificate.status, certificate.residual)
    final = jax.tree.map(lambda x: x[:, -1], h)
    iterations, residual, prefix, status = certificate
    rate = _growth(cell, solver, *lax.stop_gradient((system, h)))
    return Solution(h, final, iterations, residual, prefix, rate, status)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _solve(cell: Any, solver: Any, system: System, guess: Any) -> tuple[Any, Any]:
    return solver.run(cell, system, guess)


@_solve.defjvp
def _moved(cell, solver, primals, tangents):
    system, moved = primals[0], tangents[0]
    h, certificate = _solve(cell, solver, *primals)
    h = saved(h)  # here, because no remat policy sees into a function with a derivative of its own
    method = solver.linear_method if _has_jacobian(cell, solver, h) else STEPWISE
    still = jax.tree.map(
        lambda x: np.zeros(x.shape, jax.dtypes.float0) if x.dtype == jnp.int32 else jnp.zeros_like(x), certificate
    )
    return (h, certificate), (tangent(cell, method, system, h, moved), still)


def _has_jacobian(cell: Any, solver: Any, h: Any) -> bool:
    """Whether the derivatives use the Jacobians themselves: not those of mixing states that were stepped through."""
    return explicit(cell, h) and not getattr(solver, "steps", lambda cell: False)(cell)


def _growth(cell: Any, solver: Any, system: System, h: Any) -> jax.Array:
    if _has_jacobian(cell, solver, h):
        return growth(cell.structure.norms(linearise(cell, system, h)[1]))
    return jnp.full(jax.tree.leaves(h)[0].shape[0], jnp.nan)


def _sizes(u: Any) -> tuple[int, int]:
    shapes = [jnp.shape(x) for x in jax.tree.leaves(u)]
    if not shapes or any(len(s) < 2 or s[:2] != shapes[0][:2] for s in shapes) or shapes[0][1] < 1:
        raise ValueError(f"u must have leaves of shape (B, T, ...) with one B and one T >= 1, got {shapes}")
    return shapes[0][0], shapes[0][1]


def _check(cell: Any, params: Any, u: Any, h0: Any, reset: Any, mask: Any, solver: Any, guess: Any) -> None:
    if not hasattr(solver, "run"):
        raise ValueError(f"solver must be Newton(...), Sequential() or another solver, got {solver!r}")
    batch, time = _sizes(u)
    check_bool(reset=reset, mask=mask)
    for name, flag in (("reset", reset), ("mask", mask)):
        if flag is not None and flag.shape != (batch, time):
            raise ValueError(f"{name} must have shape (B, T) = {(batch, time)}, got {flag.shape}")
    wanted = _shapes(jax.eval_shape(lambda: cell.init_state(batch)))
    if _shapes(h0) != wanted:
        raise ValueError(f"h0 must have shape {wanted}, got {_shapes(h0)}")
    if guess is not None:
        whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, time, *x.shape[1:]), x.dtype), h0)
        if _shapes(guess) != _shapes(whole):
            raise ValueError(f"guess must have shape {_shapes(whole)}, got {_shapes(guess)}")
    after = jax.eval_shape(cell.step, params, h0, jax.tree.map(lambda x: x[:, 0], u))
    if _shapes(after, True) != _shapes(h0, True):
        raise ValueError(
            f"{type(cell).__name__}.step must return a state like the one it takes, {_shapes(h0, True)}, "
            f"got {_shapes(after, True)}"
        )


def _tolerance(value: Any, dtype: Any) -> jax.Array | None:
    if value is None:
        return None
    if np.ndim(value) or not (isinstance(value, Tracer) or value > 0):
        raise ValueError(f"tolerance must be one positive number, got {value}")
    return jnp.asarray(value, jnp.finfo(dtype).dtype)


def _shapes(tree: Any, dtypes: bool = False) -> Any:
    """Shapes of a state, one or a tuple of them, with dtypes if asked for."""
    shapes = jax.tree.map(lambda x: f"{tuple(x.shape)} {x.dtype}" if dtypes else f"{tuple(x.shape)}", tree)
    leaves = jax.tree.leaves(shapes)
    return leaves[0] if shapes == leaves[0] else f"({', '.join(leaves)})"


def _raise_unless_converged(status: jax.Array, residual: jax.Array) -> None:
    def check(status: Any, residual: Any) -> None:
        bad = np.flatnonzero(np.asarray(status) > Status.FELL_BACK)
        if bad.size:
            raise FloatingPointError(f"sequences {bad.tolist()} did not converge: residuals {residual[bad]}")

    if isinstance(status, Tracer):
        jax.debug.callback(check, status, residual)
    else:
        check(status, np.asarray(residual))
