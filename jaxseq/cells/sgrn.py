"""SGRN, the simple gated recurrent network (Zu et al., "A simple gated recurrent network for detection of power quality
disturbances", IET Generation, Transmission and Distribution, doi 10.1049/gtd2.12056).

    p_t = x_t W + b,   f_t = σ(p_t + h_{t-1} R + b_r)
    h_t = tanh((1 - f_t) p_t + f_t h_{t-1})

Initialisation is torchrecurrent 0.2.5's: W and R Glorot uniform, b and b_r zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class SGRN(GlorotCell):
    """Input p and gate f, each with a bias. See `GlorotCell` for the parameters."""

    gates = ("p",)
    recurrent_gates = ("f",)
    recurrent_biases = ("f",)
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        (p,), (r,), (b_r,) = u, params["r"], params["b_r"]
        f = jax.nn.sigmoid(p + self.recur(r, h) + b_r)
        return jnp.tanh((1 - f) * p + f * h)
