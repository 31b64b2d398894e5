"""One nonlinear recurrence as a system of equations in all its states at once.

F_t(h) = step(h_{t-1}, u_t) - h_t, t = 1..T, with h_0 given. Its solution is the recurrence; its Jacobian is unit lower
block-bidiagonal, so a Newton step is one linear scan.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import over_time, previous


class System(NamedTuple):
    """The data of a recurrence: parameters, inputs u (leaves (B, T, ...)), h0 (B, *state), reset and mask (B, T)."""

    params: Any
    u: Any
    h0: jax.Array
    reset: jax.Array | None
    mask: jax.Array | None


def step(cell: Any, system: System, h_before: jax.Array) -> jax.Array:
    """The states one step after h_before (B, T, *state); padding stays where it is."""
    h = cell.step(system.params, h_before, system.u)
    return h if system.mask is None else jnp.where(over_time(system.mask, h), h, h_before)


def linearise(cell: Any, system: System, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """F(h) (B, T, *state) and the Jacobians J_t = dstep/dh_{t-1} in the cell's structure."""
    before = previous(h, system.h0, system.reset)
    after, jac = cell.structure.linearise(lambda x: cell.step(system.params, x, system.u), before)
    if system.mask is not None:
        after = jnp.where(over_time(system.mask, after), after, before)
    return after - h, cell.structure.cut(jac, system.reset, system.mask)
