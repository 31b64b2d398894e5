"""One step after another: the definition, the fallback, and on CPU the fastest forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import over_time
from jaxseq.solvers.solution import Solution, largest
from jaxseq.solvers.system import System


@dataclass(frozen=True)
class Sequential:
    """Steps through time in place. Exact, with depth T; `converged` says that every state is finite."""

    def run(self, cell: Any, system: System) -> Solution:
        """All states of the system, one step at a time."""
        h = _march(cell, system)
        rows = jnp.zeros(h.shape[0], h.real.dtype)
        residual = jnp.where(jnp.isfinite(largest(h)), rows, jnp.inf)
        return Solution(h, h[:, -1], jnp.zeros(h.shape[0], jnp.int32), residual, jnp.isfinite(residual))


def _march(cell: Any, system: System) -> jax.Array:
    params, u, h0, reset, mask = system
    time = jax.tree.leaves(u)[0].shape[1]

    def at(tree, t):
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, t, 1, keepdims=False), tree)

    def body(t, carry):
        h, out = carry
        h = h if reset is None else jnp.where(over_time(at(reset, t), h), 0, h)
        after = cell.step(params, h, at(u, t))
        h = after if mask is None else jnp.where(over_time(at(mask, t), h), after, h)
        return h, lax.dynamic_update_index_in_dim(out, h, t, 1)

    out = jnp.zeros((h0.shape[0], time, *h0.shape[1:]), h0.dtype)
    return lax.fori_loop(0, time, body, (h0, out))[1]
