"""Light GRU (Ravanelli, Brakel, Omologo and Bengio 2018, arXiv 1803.10225).

    z_t = σ(u_z + h_{t-1} R_z),    n_t = ReLU(u_h + h_{t-1} R_h)
    h_t = z_t h_{t-1} + (1 - z_t) n_t,            u_v = x W_v + b_v

z weights the old state. The paper normalises x W_v over the batch; that is a layer before the cell, and not part of it.
h has no bound, and grows without limit where R_h has gain above one.

Initialisation is ours: weights uniform in ±1/√(channels of a head), zero biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxseq.cells.recurrent import Params, RecurrentCell


@dataclass(frozen=True)
class LiGRU(RecurrentCell):
    """Gates z, h. See `RecurrentCell` for the parameters."""

    gates = ("z", "h")

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, jax.Array]) -> jax.Array:
        """h_t (..., d_state)."""
        r_z, r_h = params["r"]
        u_z, u_h = u
        z = jax.nn.sigmoid(u_z + self.recur(r_z, h))
        n = jax.nn.relu(u_h + self.recur(r_h, h))
        return z * h + (1 - z) * n
