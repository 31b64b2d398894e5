"""UGRNN, the update gate RNN (Collins, Sohl-Dickstein and Sussillo 2016, arXiv 1611.09913).

    n_t = tanh(u_n + h_{t-1} R_n),   g_t = σ(u_g + h_{t-1} R_g)
    h_t = g_t h_{t-1} + (1 - g_t) n_t

g keeps the past. Initialisation is torchrecurrent 0.2.5's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class UGRNN(GlorotCell):
    """Candidate n and gate g. See `GlorotCell` for the parameters."""

    gates = ("n", "g")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        n, g = (x + self.recur(r, h) for x, r in zip(u, params["r"], strict=True))
        g = jax.nn.sigmoid(g)
        return g * h + (1 - g) * jnp.tanh(n)
