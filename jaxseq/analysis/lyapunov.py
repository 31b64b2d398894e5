"""The largest Lyapunov exponent of a driven cell: whether neighbouring states part or meet (Benettin et al. 1980).

    w_t = J_t v_{t-1},   v_t = w_t / |w_t|,   λ = 1/T Σ_t log |w_t|,     J_t = dstep/dh at (h_{t-1}, u_t)

One tangent vector of all states, renormalised at every step; no Jacobian is formed. (The paper follows several vectors
and orthogonalises them, which gives the other exponents too.) Above zero, rounding errors grow like exp(λ t): then not
even two sequential runs agree for long, and Newton's iterations over all steps do not converge.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.checks import accumulation_dtype


def lyapunov_exponent(cell: Any, params: Any, u: Any, h0: Any = None) -> jax.Array:
    """λ per step along the trajectory that u drives, in natural logarithms.

    The tangent starts in a fixed random direction: over T steps that leaves an error of the order 1 / T.

    Args:
      cell: with `step(params, h, u)` and `init_state(batch)`, of any structure.
      params: its parameters.
      u: inputs (leaves (B, T, ...)), as `cell.inputs` makes them.
      h0: state before the first step (B, D) or a tuple; `cell.init_state(B)` if None.

    Returns:
      (B,) float32, or float64 if u or h0 are. -inf where the tangent vanishes; NaN where the trajectory is not finite.

    Raises ValueError: leaves of u that do not share B and T >= 1.
    """
    shapes = [x.shape for x in jax.tree.leaves(u)]
    if not shapes or any(len(s) < 2 or s[:2] != shapes[0][:2] for s in shapes) or shapes[0][1] < 1:
        raise ValueError(f"u must have leaves of shape (B, T, ...) with one B and one T >= 1, got {shapes}")
    h0 = cell.init_state(shapes[0][0]) if h0 is None else h0
    dtype = accumulation_dtype(*jax.tree.leaves((h0, u)))
    h0 = jax.tree.map(lambda x: jnp.asarray(x, dtype), h0)

    def body(carry: tuple[Any, Any], u_t: Any) -> tuple[tuple[Any, Any], jax.Array]:
        h, v = carry
        h, w = jax.jvp(lambda h: cell.step(params, h, u_t), (h,), (v,))
        v, size = _normalised(w)
        return (h, v), jnp.log(size)

    time_major = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), u)
    rates = lax.scan(body, (h0, _normalised(_directions(h0))[0]), time_major)[1]
    return jnp.mean(rates, axis=0)


def _normalised(w: Any) -> tuple[Any, jax.Array]:
    """w at length 1 and its length (B,), for every row; a row of zeros stays one."""
    size = jnp.sqrt(sum(jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(w)))
    divisor = jnp.where(size == 0, 1, size)
    return jax.tree.map(lambda x: x / divisor.reshape(-1, *(1,) * (x.ndim - 1)), w), size


def _directions(h: Any) -> Any:
    leaves, structure = jax.tree.flatten(h)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return jax.tree.unflatten(
        structure, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )
