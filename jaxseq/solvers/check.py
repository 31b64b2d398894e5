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
from jaxseq.solvers.solve import solve


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
    keys = jax.random.split(jax.random.key(seed), 5)
    params = cell.init(keys[0])
    u = cell.inputs(params, jax.random.normal(keys[1], (batch, time, cell.d_input)))
    zero = cell.init_state(batch)
    h0 = 0.5 * jax.random.normal(keys[2], zero.shape, zero.dtype)
    weight = jax.random.normal(keys[3], (batch, time, *zero.shape[1:]), zero.dtype)
    expected = jax.jit(_reference(cell))(params, u, h0)
    newton, sequential = (jax.jit(partial(solve, cell, solver=s))(params, u, h0) for s in (Newton(), Sequential()))
    deviations = {
        "structure": _structure_deviation(cell, params, u, expected, keys[4]),
        "newton": _deviation(newton.h, expected),
        "sequential": _deviation(sequential.h, expected),
        "gradients": _gradient_deviation(cell, params, u, h0, weight),
    }
    honest = deviations["structure"] <= tolerance  # Newton need not converge with a wrong Jacobian
    if honest and not bool(jnp.all(newton.converged)):
        raise ValueError(f"Newton did not converge on {type(cell).__name__}: residual {newton.residual}")
    for name, value in deviations.items():
        if not value <= tolerance:
            raise ValueError(f"{type(cell).__name__} fails the {name} check: relative deviation {value:.1e}")
    return deviations


def _reference(cell: Any) -> Any:
    return lambda params, u, h0: reference.recurrence(lambda h, u_t: cell.step(params, h, u_t), u, h0)


def _structure_deviation(cell: Any, params: Any, u: Any, h: jax.Array, key: jax.Array) -> float:
    v = jax.random.normal(key, h.shape, h.dtype)

    def step(x):
        return cell.step(params, x, u)

    @jax.jit
    def products(h, v):
        return cell.structure.apply(cell.structure.linearise(step, h)[1], v), jax.jvp(step, (h,), (v,))[1]

    return _deviation(*products(h, v))


def _gradient_deviation(cell: Any, params: Any, u: Any, h0: jax.Array, weight: jax.Array) -> float:
    def gradients(states: Any) -> Any:
        return jax.jit(jax.grad(lambda *args: jnp.sum(weight * states(*args)), argnums=(0, 1, 2)))(params, u, h0)

    ours = gradients(lambda *args: solve(cell, *args).h)
    theirs = gradients(_reference(cell))
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return float(np.max([_deviation(a, b) for a, b in pairs]))  # keeps NaN, as the built-in max may not


def _deviation(value: Any, expected: Any) -> float:
    value, expected = np.asarray(value), np.asarray(expected)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which passes no check
        return float(np.max(np.abs(value - expected)) / max(1e-6, float(np.max(np.abs(expected)))))
