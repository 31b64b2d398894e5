"""One nonlinear recurrence as a system of equations in all its states at once.

F_t(h) = step(h_{t-1}, u_t) - h_t, t = 1..T, with h_0 given. Its solution is the recurrence; its Jacobian is unit lower
block-bidiagonal, so a Newton step is one linear scan.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import where
from jaxseq.ops.shift import previous


class System(NamedTuple):
    """The data of a recurrence: parameters, inputs u (leaves (B, T, ...)), h0 (B, D) or a tuple, reset, mask (B, T).

    `tolerance` () bounds the residual in place of the solver's own, if there is one.
    """

    params: Any
    u: Any
    h0: Any
    reset: jax.Array | None
    mask: jax.Array | None
    tolerance: jax.Array | None = None


def length(system: System) -> int:
    """T."""
    return jax.tree.leaves(system.u)[0].shape[1]


def rest(system: System) -> Any:
    """The states of a sequence that stays at zero (B, T, D)."""
    time = length(system)
    return jax.tree.map(lambda x: jnp.zeros((x.shape[0], time, *x.shape[1:]), x.dtype), system.h0)


def before(system: System, h: Any) -> Any:
    """h_{t-1} for every t."""
    return previous(h, system.h0, system.reset)


def step(cell: Any, system: System, h_before: Any) -> Any:
    """The states one step after h_before (B, T, D); padding stays where it is."""
    return where(system.mask, cell.step(system.params, h_before, system.u), h_before)


def linearise(cell: Any, system: System, h: Any) -> tuple[Any, Any]:
    """F(h) (B, T, D) and the Jacobians J_t = dstep/dh_{t-1} in the cell's structure."""
    h_before = before(system, h)
    after, jac = step_and_jacobian(cell, system.params, h_before, system.u)
    force = jax.tree.map(jnp.subtract, where(system.mask, after, h_before), h)
    return force, cell.structure.cut(jac, system.reset, system.mask)


def step_and_jacobian(cell: Any, params: Any, h: Any, u: Any) -> tuple[Any, Any]:
    """step(h) and its derivative, by JVPs or by the closed form of a cell that offers `jacobian(params, h, u)`."""
    if hasattr(cell, "jacobian"):
        return cell.step(params, h, u), cell.jacobian(params, h, u)
    return cell.structure.linearise(lambda x: cell.step(params, x, u), h)


def residual(cell: Any, system: System, h: Any) -> Any:
    """F(h) alone."""
    return jax.tree.map(jnp.subtract, step(cell, system, before(system, h)), h)
