"""JANET, an LSTM with the forget gate alone (van der Westhuizen and Lasenby 2018, arXiv 1804.04849).

    s_t = u_f + h_{t-1} R_f,    c_t = tanh(u_c + h_{t-1} R_c)
    h_t = σ(s_t) h_{t-1} + (1 - σ(s_t - β)) c_t,            u_v = x W_v + b_v

The paper's c and h are the same array, one state here. β = 1 is a constant of the paper; here it is a parameter that
starts there, as in the package torchrecurrent. The two weights sum to more than 1 for β > 0: h has no bound.

Initialisation is ours: weights uniform in ±1/√(channels of a head), zero biases. (The paper draws b_f from
log U(1, T - 1) where T is the longest range to be remembered.)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell


@dataclass(frozen=True)
class JANET(RecurrentCell):
    """Gates f, c. Parameters: those of `RecurrentCell` and beta, a scalar."""

    gates = ("f", "c")

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        return {**super().init(key), "beta": jnp.ones(())}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, jax.Array]) -> jax.Array:
        """h_t (..., d_state)."""
        r_f, r_c = params["r"]
        u_f, u_c = u
        s = u_f + self.recur(r_f, h)
        c = jnp.tanh(u_c + self.recur(r_c, h))
        return jax.nn.sigmoid(s) * h + (1 - jax.nn.sigmoid(s - params["beta"])) * c
