"""How large the derivative of a step is where a solve ended."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.solvers.solution import Solution, largest
from jaxseq.solvers.system import System, linearise


def largest_jacobian(
    cell: Any,
    params: Any,
    u: Any,
    solution: Solution,
    h0: Any = None,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """max |J_t| over time and channels (or heads), J = dstep/dh at the states of a solution.

    Of a channel with one state |J| is the absolute value, of several the Frobenius norm. Below 1 everywhere, what
    Newton's linear scans add up decays; runs of larger ones are what makes it need many iterations, or fail.

    Args:
      cell, params, u, h0, reset, mask: as given to `solve`; padding (`mask` False) and document starts do not count.
      solution: what `solve` returned.

    Returns:
      (B,) float, no gradient; inf where an entry is not finite.
    """
    h0 = cell.init_state(jax.tree.leaves(u)[0].shape[0]) if h0 is None else h0
    system = System(params, u, jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), h0, solution.final), reset, mask)
    system, h = jax.lax.stop_gradient((system, solution.h))
    norms = cell.structure.norms(linearise(cell, system, h)[1])
    return largest(norms if mask is None else jnp.where(mask[..., None], norms, 0))
