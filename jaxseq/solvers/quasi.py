"""The diagonal of a Jacobian of any structure, without the Jacobian."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import unless, where
from jaxseq.solvers.heads import Heads
from jaxseq.solvers.system import System, before


def diagonal(cell: Any, system: System, h: Any) -> tuple[Any, Any]:
    """F(h) and dh_t / dh_{t-1} of every state by itself, a tree like h: one JVP per state that mixes, one at a time."""
    h_before = before(system, h)
    after, forward = jax.linearize(lambda x: cell.step(system.params, x, system.u), h_before)
    leaves, structure = jax.tree.flatten(h)
    width = cell.structure.width(leaves[0]) if isinstance(cell.structure, Heads) else 1
    jac = jax.tree.unflatten(structure, [_own(forward, h, i, width) for i in range(len(leaves))])
    force = jax.tree.map(jnp.subtract, where(system.mask, after, h_before), h)
    jac = where(system.mask, jac, jax.tree.map(jnp.ones_like, jac))
    return force, unless(system.reset, jac)


def _own(forward: Any, h: Any, which: int, width: int) -> jax.Array:
    """The diagonal in one leaf: every width-th channel at once, as they lie in different heads."""
    leaves, structure = jax.tree.flatten(h)
    x = leaves[which]
    position = jnp.arange(x.shape[-1]) % width

    def body(k, total):
        unit = jnp.broadcast_to((position == k).astype(x.dtype), x.shape)
        tangent = [unit if i == which else jnp.zeros_like(y) for i, y in enumerate(leaves)]
        return total + unit * jax.tree.leaves(forward(jax.tree.unflatten(structure, tangent)))[which]

    return lax.fori_loop(0, width, body, jnp.zeros_like(x))
