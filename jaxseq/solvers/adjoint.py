"""Gradients of a solved recurrence, whatever solved it, by the implicit function theorem.

    λ_t = g_t + J_{t+1}ᵀ λ_{t+1},   dθ = Σ_t (∂step/∂θ)_tᵀ λ_t,   du_t = (∂step/∂u)_tᵀ λ_t,   dh0 = J_1ᵀ λ_1

One reversed linear scan with the true Jacobian at the solution. The states are saved, everything else is recomputed,
and nothing depends on the number of iterations. Exact where h solves the recurrence; where it does not,
`Solution.converged` is False and the gradient is off by the order of the residual.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import previous
from jaxseq.solvers.system import System, linearise, step


def adjoint(cell: Any, system: System, h: jax.Array, g: jax.Array) -> tuple[Any, Any, jax.Array]:
    """Cotangents of (params, u, h0) for the cotangent g (B, T, *state) of the states h."""
    _, jac = linearise(cell, system, h)
    lam = cell.structure.adjoint(jac, g)
    before = previous(h, system.h0, system.reset)

    def after(params: Any, u: Any) -> jax.Array:
        return step(cell, system._replace(params=params, u=u), before)

    _, pull = jax.vjp(after, system.params, system.u)
    dparams, du = pull(lam)
    _, pull_first = jax.vjp(lambda h0: _first(cell, system, h0), system.h0)
    return dparams, du, pull_first(lam[:, 0])[0]


def _first(cell: Any, system: System, h0: jax.Array) -> jax.Array:
    one = jax.tree.map(lambda x: x[:, :1], (system.u, system.reset, system.mask))
    first = System(system.params, one[0], h0, one[1], one[2])
    before = previous(jnp.zeros_like(h0[:, None]), h0, first.reset)
    return step(cell, first, before)[:, 0]
