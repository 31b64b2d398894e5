"""CFN, the chaos-free network (Laurent and von Brecht 2016, arXiv 1612.06212).

    θ_t = σ(u_θ + h_{t-1} R_θ),   η_t = σ(u_η + h_{t-1} R_η)
    h_t = θ_t tanh(h_{t-1}) + η_t tanh(u_c)

Without inputs every state decays to zero. |h_t| < 2. torchrecurrent 0.2.5 adds a bias within u_c, which the paper has
not; initialisation is its: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class CFN(GlorotCell):
    """Gates theta, eta and candidate c, which has no recurrent map. See `GlorotCell` for the parameters."""

    gates = ("theta", "eta", "c")
    recurrent_gates = ("theta", "eta")
    invariant = {"h": (-2.0, 2.0)}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        r_theta, r_eta = params["r"]
        u_theta, u_eta, u_c = u
        theta = jax.nn.sigmoid(u_theta + self.recur(r_theta, h))
        eta = jax.nn.sigmoid(u_eta + self.recur(r_eta, h))
        return theta * jnp.tanh(h) + eta * jnp.tanh(u_c)
