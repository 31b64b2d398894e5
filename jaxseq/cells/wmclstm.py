"""WMCLSTM, an LSTM with working memory connections (Landi, Baraldi, Cornia and Cucchiara 2021, arXiv 2109.00020).

    i_t = σ(u_i + h_{t-1} R_i + tanh(c_{t-1} M_i + b_i)),   f_t = σ(u_f + h_{t-1} R_f + tanh(c_{t-1} M_f + b_f))
    g_t = tanh(u_g + h_{t-1} R_g),                          c_t = f_t c_{t-1} + i_t g_t
    o_t = σ(u_o + h_{t-1} R_o + tanh(c_t M_o + b_o)),       h_t = o_t tanh(c_t)

Peepholes, but matrices and bounded: i and f see the old memory, o the new one. Initialisation is torchrecurrent
0.2.5's: Glorot uniform maps, zero biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class WMCLSTM(GlorotCell):
    """Gates i, f, g, o; memory maps m and their biases b_r of i, f, o; states c, h. See `GlorotCell`."""

    gates = ("i", "f", "g", "o")
    memory_gates = ("i", "f", "o")
    recurrent_biases = ("i", "f", "o")
    states = ("c", "h")
    decay = ("w", "r", "m")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1}), each (..., d_state)."""
        c, h_before = h
        (m_i, m_f, m_o), (b_i, b_f, b_o) = params["m"], params["b_r"]
        i, f, g, o = (x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True))
        i = jax.nn.sigmoid(i + jnp.tanh(self.recur(m_i, c) + b_i))
        f = jax.nn.sigmoid(f + jnp.tanh(self.recur(m_f, c) + b_f))
        c = f * c + i * jnp.tanh(g)
        o = jax.nn.sigmoid(o + jnp.tanh(self.recur(m_o, c) + b_o))
        return c, o * jnp.tanh(c)
