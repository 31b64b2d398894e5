"""LightRU, the light recurrent unit (Ye et al. 2024, Electronics 13(16) 3204).

    n_t = tanh(u_n),   f_t = σ(u_f + h_{t-1} R)
    h_t = (1 - f_t) h_{t-1} + f_t n_t

f weights the candidate, the other way round from an LSTM's forget gate. Initialisation is torchrecurrent 0.2.5's: W and
R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class LightRU(GlorotCell):
    """Candidate n, which has no recurrent map, and gate f. See `GlorotCell` for the parameters."""

    gates = ("n", "f")
    recurrent_gates = ("f",)
    invariant = {"h": (-1.0, 1.0)}

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(n_t, u_f), each (B, T, d_state)."""
        u_n, u_f = super().inputs(params, x)
        return jnp.tanh(u_n), u_f

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        n, u_f = u
        f = jax.nn.sigmoid(u_f + self.recur(params["r"][0], h))
        return (1 - f) * h + f * n
