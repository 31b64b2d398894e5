"""ATR, the addition-subtraction twin-gated recurrent network (Zhang, Xiong, Su, Lin and Zhang 2018, arXiv 1810.12546).

    p_t = x_t W + b,   q_t = h_{t-1} R + b_r,   i_t = σ(p_t + q_t),   f_t = σ(p_t - q_t)
    h_t = i_t p_t + f_t h_{t-1}

The state is not bounded. The biases and the initialisation are torchrecurrent 0.2.5's: W Glorot uniform, R unit
normal, b and b_r zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class ATR(GlorotCell):
    """Gates p of the input and q of the state, each with a bias. See `GlorotCell` for the parameters."""

    gates = ("p",)
    recurrent_gates = ("q",)
    recurrent_biases = ("q",)
    normal = ("r",)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        (p,), (r,), (b_r,) = u, params["r"], params["b_r"]
        q = self.recur(r, h) + b_r
        return jax.nn.sigmoid(p + q) * p + jax.nn.sigmoid(p - q) * h
