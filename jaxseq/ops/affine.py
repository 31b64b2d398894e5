"""h_t = A_t h_{t-1} + b_t for any linear A_t, with derivatives of every order.

With λ_t the cotangent of h_t once all later steps have been counted (no conjugate for complex numbers: JAX's VJP is
the transpose),

    λ_t = g_t + A_{t+1}ᵀ λ_{t+1},    db_t = λ_t,    dA_t = λ_t h_{t-1}ᵀ,    dh0 = A_1ᵀ λ_1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxseq.ops.affine_methods import Algorithm
from jaxseq.ops.algebra import Algebra, previous, where
from jaxseq.ops.choice import dispatch


def affine_scan(
    op: str,
    method: str,
    algorithms: Mapping[str, Algorithm],
    algebra: Algebra,
    a: Any,
    b: Any,
    h0: Any,
    *,
    reset: jax.Array | None,
    mask: jax.Array | None,
    reverse: bool,
) -> Any:
    """All states, by the algorithm that `method` names, with derivatives of every order, forwards and backwards.

    An algorithm itself is never differentiated. A tangent is the same recurrence driven by dA_t h_{t-1} + db_t, and
    `lax.custom_linear_solve` transposes it into the adjoint one: one pass forwards and one backwards, and nothing but
    a, h, h0 and the flags kept between them.
    """
    runs = {name: partial(x.run, algebra, reverse=reverse) for name, x in algorithms.items()}
    backwards = {name: _backward_of(x, algebra, reverse) for name, x in algorithms.items()}
    shape = jax.tree.leaves(b)[0].shape
    run, backward = (dispatch(op, method, functions, shape, differentiated=False) for functions in (runs, backwards))
    return _states(_Solver(algebra, reverse, run, backward), a, masked_input(algebra, b, mask), h0, reset, mask)


@dataclass(frozen=True)
class _Solver:
    algebra: Algebra
    reverse: bool
    run: Callable[..., jax.Array]
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


# The backward pass takes h_{t-1} from h again. There is no recomputation to protect, hence no barrier.
@partial(jax.checkpoint, static_argnums=(0, 1), prevent_cse=False)
def _through(algebra, reverse, a, h, h0, reset, mask):
    """A_t h_{t-1}."""
    before = previous(h, h0, reset, reverse)
    return where(mask, algebra.product(a, before), before)


def _backward_of(algorithm: Algorithm, algebra: Algebra, reverse: bool) -> Callable[..., Any]:
    adjoint = algorithm.adjoint
    if adjoint is None:
        return partial(algorithm.backward, algebra, reverse=reverse)

    def backward(a, h, h0, g, reset, mask):
        lam = adjoint(algebra, a, g, reset, mask, reverse=reverse)
        da, dh0 = jax.vjp(lambda a, h0: _through(algebra, reverse, a, h, h0, reset, mask), a, h0)[1](lam)
        return da, lam, dh0

    return backward


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _states(solver: _Solver, a: Any, b: Any, h0: Any, reset: Any, mask: Any) -> Any:
    return solver.run(a, b, h0, reset, mask)


@partial(_states.defjvp, symbolic_zeros=True)
def _tangent(solver, primals, tangents):
    """The map (dA, db, dh0) -> dh, as the solution x of a linear system in (dA, x, dh0), so that it has a transpose."""
    a, _, h0, reset, mask = primals
    h, end = _states(solver, *primals), jax.tree.map(jnp.zeros_like, h0)
    through = partial(_through, solver.algebra, solver.reverse)

    def driven(moved):
        """dA_t h_{t-1}, and at the first step A_1 dh0, for those of the two that move."""
        still = {"a": a, "h0": h0}
        at = {name: still[name] for name in moved if name in still}
        tangent = {name: moved[name] for name in at}
        step = lambda at: through(h=h, reset=reset, mask=mask, **{**still, **at})  # noqa: E731
        return jax.jvp(step, (at,), (tangent,))[1] if at else jax.tree.map(lambda _: 0, h)

    def system(x):
        through_x = through(a, x["b"], end, reset, mask)
        return {**x, "b": jax.tree.map(lambda b, y, z: b - y - z, x["b"], through_x, driven(x))}

    def solve(_, y):
        return {**y, "b": solver.run(a, _sum(y["b"], driven(y)), end, reset, mask)}

    def transposed(_, g):
        da, db, dh0 = solver.backward(a, h, h0, g["b"], reset, mask)
        return {**g, **{name: _sum(g[name], x) for name, x in (("a", da), ("h0", dh0)) if name in g}, "b": db}

    named = zip(("a", "b", "h0"), tangents, strict=False)
    moving = next(x for x in jax.tree.leaves(tangents) if not isinstance(x, SymbolicZero))
    given = {name: jax.tree.map(partial(_instance, moving), x) for name, x in named if _moves(x)}
    if "b" not in given:  # a zero that is linear in what moves, as the system asks for; the compiler drops it
        given["b"] = jax.tree.map(lambda x: jnp.where(False, x, 0), driven(given))
    return h, lax.custom_linear_solve(system, given, solve, transposed)["b"]


def _moves(tangent: Any) -> bool:
    return not all(isinstance(x, SymbolicZero) for x in jax.tree.leaves(tangent))


def _instance(moving: jax.Array, x: Any) -> jax.Array:
    """x, or zeros that are linear in what moves, as a linear system's right-hand side has to be."""
    if not isinstance(x, SymbolicZero):
        return x
    zero: Any = x
    # The sum, not one entry: the transpose of an entry is a pad to the whole array, on every device.
    return jnp.zeros(zero.shape, zero.dtype) + jnp.where(False, jnp.sum(moving), 0)


def _sum(tree: Any, other: Any) -> Any:
    return jax.tree.map(jnp.add, tree, other)


def masked_input(algebra: Algebra, b: Any, mask: jax.Array | None) -> Any:
    """b (B, T, ...) as the algorithms expect it: zero where `mask` (B, T) is False."""
    return where(mask, b, algebra.zero)
