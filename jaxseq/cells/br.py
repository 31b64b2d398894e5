"""Bistable recurrent cells, BRC and nBRC (Vecoven, Ernst and Drion 2021, "A bio-inspired bistable recurrent cell allows
for long-lasting memory", PLoS ONE 16(6) e0252676).

    a_t = 1 + tanh(u_a + h_{t-1} R_a),   c_t = σ(u_c + h_{t-1} R_c)
    h_t = c_t h_{t-1} + (1 - c_t) tanh(u_h + a_t h_{t-1})

a above 1 gives a channel two stable states. BR is the case of diagonal R; NBR ("neuromodulated") has matrices.
Initialisation is torchrecurrent 0.2.5's: W Glorot uniform, b zero, R unit normal (BR) or Glorot uniform (NBR).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class NBR(GlorotCell):
    """Gates a, c and candidate h, of which a and c have recurrent maps. See `GlorotCell` for the parameters."""

    gates = ("a", "c", "h")
    recurrent_gates = ("a", "c")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        r_a, r_c = params["r"]
        u_a, u_c, u_h = u
        a = 1 + jnp.tanh(u_a + self.recur(r_a, h))
        c = jax.nn.sigmoid(u_c + self.recur(r_c, h))
        return c * h + (1 - c) * jnp.tanh(u_h + a * h)


@dataclass(frozen=True)
class BR(NBR):
    """NBR with r (2, d_state): each channel sees itself alone."""

    recurrent: str = "diagonal"

    normal = ("r",)
