"""How the states move with (params, u, h0): the implicit function theorem at the solution of a recurrence.

    dh_t = J_t dh_{t-1} + (∂step/∂params dparams + ∂step/∂u du)_t

One linear recurrence with the true Jacobian, whatever solver found the states. JAX transposes it into the adjoint

    λ_t = g_t + J_{t+1}ᵀ λ_{t+1},   dparams = Σ_t (∂step/∂params)_tᵀ λ_t,   du_t = (∂step/∂u)_tᵀ λ_t,   dh0 = J_1ᵀ λ_1

Only params, u, h0 and h are kept for it; the rest is computed again, and nothing depends on the number of iterations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import at, previous, put, steps, unless, where
from jaxseq.solvers.heads import Heads
from jaxseq.solvers.system import System, before, linearise, step

STEPWISE = "stepwise"  # the method without Jacobians: one product with each, step by step


# What the scan needs is computed again in the backward pass. There is nothing to protect it from, hence no barrier.
@partial(jax.checkpoint, static_argnums=(0, 1), prevent_cse=False)
def tangent(cell: Any, method: str, system: System, h: Any, moved: System) -> Any:
    """dh for a change of the system's params, u and h0. `method` is that of the scan, or STEPWISE."""
    h_before = before(system, h)

    def after(params: Any, u: Any) -> Any:
        return step(cell, system._replace(params=params, u=u), h_before)

    _, driven = jax.jvp(after, (system.params, system.u), (moved.params, moved.u))
    b, start = jax.tree.map(partial(jnp.add, _linear_zero(moved)), (driven, moved.h0))
    if method == STEPWISE:
        return _stepwise(cell, system, h_before, b, start)
    return _by_scan(cell.structure, method, linearise(cell, system, h)[1], b, start)


def explicit(cell: Any, h: Any) -> bool:
    """Whether the Jacobians for the states h are worth writing down: always, but for heads beyond their budget."""
    return not isinstance(cell.structure, Heads) or cell.structure.bytes(h) <= cell.structure.budget


def _by_scan(structure: Any, method: str, jac: Any, b: Any, start: Any) -> Any:
    """δ_t = J_t δ_{t-1} + b_t, linear in b and δ_0 also for JAX: with a transpose."""
    end = jax.tree.map(jnp.zeros_like, start)
    scan = partial(structure.scan, jac, method=method)

    def system(x: Any) -> Any:
        return jax.tree.map(jnp.subtract, x, structure.apply(jac, previous(x, end, None)))

    def transposed(_: Any, g: Any) -> Any:
        return jax.vjp(scan, jax.tree.map(jnp.zeros_like, g))[1](g)[0]

    first = structure.apply(jax.tree.map(lambda x: x[:, :1], jac), jax.tree.map(lambda x: x[:, None], start))
    b = jax.tree.map(lambda x, y: x.at[:, :1].add(y), b, first)
    return lax.custom_linear_solve(system, b, lambda _, b: scan(b), transposed)


def _stepwise(cell: Any, system: System, h_before: Any, b: Any, start: Any) -> Any:
    """The same by products with the step's derivative, one step after another: no Jacobian of states that mix."""
    end = jax.tree.map(jnp.zeros_like, start)

    def through(t: Any, delta: Any) -> Any:
        """J_t δ."""
        one = jax.tree.map(lambda x: x if t is None else at(x, t), (h_before, system.u, system.mask, system.reset))
        h, u, mask, reset = one
        moved = jax.jvp(lambda h: cell.step(system.params, h, u), (h,), (delta,))[1]
        return unless(reset, where(mask, moved, delta))

    def forwards(_: Any, b: Any) -> Any:
        def body(t: Any, carry: Any) -> Any:
            delta, out = carry
            delta = jax.tree.map(jnp.add, through(t, delta), at(b, t))
            return delta, put(out, delta, t)

        return lax.fori_loop(0, steps(b), body, (end, jax.tree.map(jnp.zeros_like, b)))[1]

    def backwards(_: Any, g: Any) -> Any:
        def body(i: Any, carry: Any) -> Any:
            mu, out = carry
            t = steps(g) - 1 - i
            lam = jax.tree.map(jnp.add, at(g, t), mu)
            (mu,) = jax.linear_transpose(partial(through, t), lam)(lam)
            return mu, put(out, lam, t)

        return lax.fori_loop(0, steps(g), body, (end, jax.tree.map(jnp.zeros_like, g)))[1]

    def system_(x: Any) -> Any:
        return jax.tree.map(jnp.subtract, x, through(None, previous(x, end, None)))

    first = through(0, start)
    b = jax.tree.map(lambda x, y: x.at[:, 0].add(y), b, first)
    return lax.custom_linear_solve(system_, b, forwards, backwards)


def _linear_zero(moved: System) -> jax.Array:
    """A zero that depends linearly on all that moves, as `custom_linear_solve` wants of its right-hand sides."""
    leaves = [x for x in jax.tree.leaves(moved) if x.dtype != jax.dtypes.float0]
    return jnp.where(False, sum(jnp.sum(x) for x in leaves), 0)
