"""Proof that a cell is what it claims to be: run this on a cell of your own."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.ops import reference
from jaxseq.solvers.newton import Newton
from jaxseq.solvers.sequential import Sequential
from jaxseq.solvers.solution import largest
from jaxseq.solvers.solve import solve
from jaxseq.solvers.system import step_and_jacobian

CHECKS = ("structure", "newton", "sequential", "gradients")


def check_cell(
    cell: Any, *, batch: int = 2, time: int = 33, seed: int = 0, tolerance: float = 1e-3
) -> dict[str, float]:
    """Checks a cell's declared structure, its states and its gradients on random inputs.

    The structure is proved by random tangents: J v from the declared structure must equal the JVP of `step`, which
    fails for a cell that mixes channels while claiming not to. States by `Newton` and `Sequential`, and gradients with
    respect to parameters, inputs and h0, are compared with autodiff through `lax.scan`.

    Args:
      cell: see `solve`, with `d_input`, `init(key) -> params` and `inputs(params, x) -> u` besides.
      batch, time: size of the test sequences.
      seed: of the random inputs.
      tolerance: largest relative deviation allowed, in the cell's own dtype.

    Returns:
      The deviations: {"structure", "newton", "sequential", "gradients"}.

    Raises:
      ValueError: naming the property that does not hold and the deviation.
    """
    keys = jax.random.split(jax.random.key(seed), 4)
    params = cell.init(keys[0])
    u = cell.inputs(params, jax.random.normal(keys[1], (batch, time, cell.d_input)))
    h0 = getattr(cell, "project", lambda h: h)(_normal(keys[2], cell.init_state(batch), 0.5))
    weight = _normal(keys[3], jax.eval_shape(_reference(cell), params, u, h0), 1.0)
    pairs, finite, solved = jax.jit(partial(_compare, cell))(params, u, h0, weight)
    if not bool(finite):
        raise ValueError(f"{type(cell).__name__}.step returns values that are not finite for finite inputs")
    deviations = {name: float(np.max([_deviation(*pair) for pair in pairs[name]])) for name in CHECKS}
    if deviations["structure"] <= tolerance and not bool(jnp.all(solved.converged)):
        raise ValueError(f"Newton did not solve {type(cell).__name__}: residual {solved.residual}")
    for name, value in deviations.items():
        if not value <= tolerance:
            raise ValueError(f"{type(cell).__name__} fails the {name} check: relative deviation {value:.1e}")
    return deviations


def _compare(cell: Any, params: Any, u: Any, h0: Any, weight: Any) -> tuple[Any, jax.Array, Any]:
    """By the name of the check pairs of arrays that should be equal; whether states are finite; Newton's solution."""
    expected = _reference(cell)(params, u, h0)
    newton, sequential = (solve(cell, params, u, h0, solver=solver) for solver in (Newton(), Sequential("loop")))
    ours, theirs = (_gradients(f, weight)(params, u, h0) for f in (lambda *x: solve(cell, *x).h, _reference(cell)))
    pairs = {
        "structure": _pairs(*_products(cell, params, u, expected, weight)),
        "newton": _pairs(newton.h, expected),
        "sequential": _pairs(sequential.h, expected),
        "gradients": _pairs(ours, theirs),
    }
    return pairs, jnp.all(jnp.isfinite(largest(expected))), newton


def _reference(cell: Any) -> Any:
    return lambda params, u, h0: reference.recurrence(lambda h, u_t: cell.step(params, h, u_t), u, h0)


def _products(cell: Any, params: Any, u: Any, h: Any, v: Any) -> tuple[Any, Any]:
    """J v with the Jacobian in the declared structure, and by the derivative of the step itself."""
    _, jac = step_and_jacobian(cell, params, h, u)
    return cell.structure.apply(jac, v), jax.jvp(lambda x: cell.step(params, x, u), (h,), (v,))[1]


def _gradients(states: Any, weight: Any) -> Any:
    def loss(*args: Any) -> jax.Array:
        return jnp.sum(jnp.stack([jnp.sum(w * x) for w, x in _pairs(weight, states(*args))]))

    return jax.grad(loss, argnums=(0, 1, 2))


def _normal(key: jax.Array, like: Any, scale: float) -> Any:
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    normal = [scale * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, normal)


def _pairs(tree: Any, other: Any) -> list[Any]:
    return list(zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))


def _deviation(value: Any, expected: Any) -> float:
    value, expected = np.asarray(value), np.asarray(expected)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which passes no check
        return float(np.max(np.abs(value - expected)) / max(1e-6, float(np.max(np.abs(expected)))))
