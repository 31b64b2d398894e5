"""LSTM (Hochreiter and Schmidhuber 1997; with forget gate Gers, Schmidhuber and Cummins 2000), as torch.nn.LSTM.

    i_t, f_t, o_t = σ(u_i + h R_i), σ(u_f + h R_f), σ(u_o + h R_o),    g_t = tanh(u_g + h R_g)
    c_t = f_t c_{t-1} + i_t g_t,    h_t = o_t tanh(c_t),               u_v = x W_v + b_v

h stays in [-1, 1]. In the diagonal form every R is a vector and the Jacobian is 2 x 2 per channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class LSTM(RecurrentCell):
    """Gates i, f, g, o (torch's order), states c, h. See `RecurrentCell` for the parameters."""

    gates = ("i", "f", "g", "o")
    states = ("c", "h")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1})."""
        c, h_before = h
        i, f, g, o = (x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)
