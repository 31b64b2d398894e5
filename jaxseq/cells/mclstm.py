"""MCLSTM, an LSTM with a memory controller ("Sequence modeling using a memory controller extension for LSTM", time
series workshop at NIPS 2017).

    f_t, i_t, o_t, m_t = σ(u_v + v_{t-1} R_v) for v in f, i, o, m,    n_t = tanh(u_n + v_{t-1} R_n)
    c_t = f_t c_{t-1} + i_t n_t,    v_t = m_t tanh(c_t),    h_t = o_t tanh(c_t)

v, not the output h, is what the gates see. h is held as a state because o_t needs v_{t-1}; nothing depends on it, so
that its column of the Jacobian is zero. Initialisation is torchrecurrent 0.2.5's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array, jax.Array]


@dataclass(frozen=True)
class MCLSTM(GlorotCell):
    """Gates f, i, o, m, n, states v, c, h. See `GlorotCell` for the parameters."""

    gates = ("f", "i", "o", "m", "n")
    states = ("v", "c", "h")
    invariant = {"v": (-1.0, 1.0), "h": (-1.0, 1.0)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(v_t, c_t, h_t) from (v_{t-1}, c_{t-1}, h_{t-1}), each (..., d_state)."""
        v, c, _ = h
        f, i, o, m, n = (x + self.recur(r, v) for x, r in zip(u, params["r"], strict=True))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(n)
        return jax.nn.sigmoid(m) * jnp.tanh(c), c, jax.nn.sigmoid(o) * jnp.tanh(c)
