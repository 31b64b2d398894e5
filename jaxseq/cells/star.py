"""STAR, the stackable recurrent cell (Turkoglu, D'Aronco, Wegner and Schindler 2019, arXiv 1911.11033).

    z_t = tanh(u_z),   k_t = σ(u_k + h_{t-1} R)
    h_t = tanh((1 - k_t) h_{t-1} + k_t z_t)

k weights the input. Initialisation is torchrecurrent 0.2.5's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class STAR(GlorotCell):
    """Input z, which has no recurrent map, and gate k. See `GlorotCell` for the parameters."""

    gates = ("z", "k")
    recurrent_gates = ("k",)
    invariant = {"h": (-1.0, 1.0)}

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(z_t, u_k), each (B, T, d_state)."""
        u_z, u_k = super().inputs(params, x)
        return jnp.tanh(u_z), u_k

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        z, u_k = u
        k = jax.nn.sigmoid(u_k + self.recur(params["r"][0], h))
        return jnp.tanh((1 - k) * h + k * z)
