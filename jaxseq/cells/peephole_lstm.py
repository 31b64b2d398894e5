"""LSTM with peepholes (Gers and Schmidhuber 2000, "Recurrent nets that time and count").

    i_t = σ(u_i + h_{t-1} R_i + p_i c_{t-1}),   f_t = σ(u_f + h_{t-1} R_f + p_f c_{t-1})
    g_t = tanh(u_g + h_{t-1} R_g),              c_t = f_t c_{t-1} + i_t g_t
    o_t = σ(u_o + h_{t-1} R_o + p_o c_t),       h_t = o_t tanh(c_t),          u_v = x W_v + b_v

The peepholes p are vectors; i and f look at the old c, o at the new one. h stays in [-1, 1].

Initialisation is ours, after torch.nn.LSTM: all weights, p too, uniform in ±1/√(channels of a head), zero biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class PeepholeLSTM(RecurrentCell):
    """Gates i, f, g, o, states c, h. Parameters: those of `RecurrentCell` and p (3, d_state), gates i, f, o."""

    gates = ("i", "f", "g", "o")
    states = ("c", "h")
    invariant = {"h": (-1.0, 1.0)}

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        key_p, key = jax.random.split(key)
        bound = 1 / sqrt(self.d_state // self.heads)
        return {**super().init(key), "p": jax.random.uniform(key_p, (3, self.d_state), minval=-bound, maxval=bound)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1})."""
        c, h_before = h
        i, f, g, o = (x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True))
        p_i, p_f, p_o = params["p"]
        i, f = jax.nn.sigmoid(i + p_i * c), jax.nn.sigmoid(f + p_f * c)
        c = f * c + i * jnp.tanh(g)
        return c, jax.nn.sigmoid(o + p_o * c) * jnp.tanh(c)

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Those of `RecurrentCell`, and the peepholes."""
        return {**super().axes(), "p": ("gate", "inner")}
