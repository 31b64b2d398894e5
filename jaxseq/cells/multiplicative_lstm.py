"""Multiplicative LSTM (Krause, Lu, Murray and Renals 2016, arXiv 1609.07959).

    m_t = u_m (h_{t-1} R + b_r)
    i_t, f_t, o_t = σ(u_v + m_t M_v) for v in i, f, o,    g_t = tanh(u_g + m_t M_g)
    c_t = f_t c_{t-1} + i_t g_t,    h_t = o_t tanh(c_t)

Every input has its own transition between states. The biases and the initialisation are torchrecurrent 0.2.5's: W and R
Glorot uniform, M unit normal, biases zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class MultiplicativeLSTM(GlorotCell):
    """Input maps m, i, f, g, o, a recurrent map and bias b_r of m, maps m of i, f, g, o; states c, h."""

    gates = ("m", "i", "f", "g", "o")
    recurrent_gates = ("m",)
    recurrent_biases = ("m",)
    memory_gates = ("i", "f", "g", "o")
    normal = ("m",)
    states = ("c", "h")
    decay = ("w", "r", "m")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1}), each (..., d_state)."""
        c, h_before = h
        u_m, *rest = u
        m = u_m * (self.recur(params["r"][0], h_before) + params["b_r"][0])
        i, f, g, o = (x + self.recur(r, m) for x, r in zip(rest, params["m"], strict=True))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)
