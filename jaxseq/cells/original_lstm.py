"""The LSTM before forget gates (Hochreiter and Schmidhuber 1997, Neural Computation 9(8)).

    i_t, o_t = σ(u_v + h_{t-1} R_v) for v in i, o,    g_t = tanh(u_g + h_{t-1} R_g)
    c_t = c_{t-1} + i_t g_t,    h_t = o_t tanh(c_t)

c is a sum and may grow without bound. (The paper squashes to [-2, 2] and [-1, 1] where there is tanh here.)
Initialisation is torchrecurrent 0.2.5's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class OriginalLSTM(GlorotCell):
    """Gates i, g, o, states c, h. See `GlorotCell` for the parameters."""

    gates = ("i", "g", "o")
    states = ("c", "h")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1}), each (..., d_state)."""
        c, h_before = h
        i, g, o = (x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True))
        c = c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)
