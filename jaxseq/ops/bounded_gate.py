"""Forget gates that are bounded below by depth, as in HGRN (Qin et al. 2023, arXiv 2311.04823, section 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

NOTHING = 1e-20  # a gate below this forgets all: its logarithm need not see the bound


def bounds_by_depth(table: jax.Array) -> jax.Array:
    """γ (layers, n) from a table of logits (layers, n): the running sum over depth of its softmax, less the first row.

    0 in the first layer, growing with depth, below 1 in the last. In the table's dtype.
    """
    shares = jax.nn.softmax(table, axis=0)
    return jnp.cumsum(shares, axis=0) - shares[:1]


def bounded_gate(z: jax.Array, bound: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """f = γ + (1 - γ) σ(z), and 1 - f without its cancellation.

    z is any float array in float32 or wider, `bound` the γ in [0, 1] that broadcasts to it.
    """
    return bound + (1 - bound) * jax.nn.sigmoid(z), (1 - bound) * jax.nn.sigmoid(-z)


def log_bounded_gate(z: jax.Array, bound: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """log f and 1 - f of `bounded_gate`, finite for every z with finite derivatives, where f underflows too."""
    f, new = bounded_gate(z, bound)
    something = f > NOTHING
    return jnp.where(something, jnp.log(jnp.where(something, f, 1)), jax.nn.log_sigmoid(z)), new
