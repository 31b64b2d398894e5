"""minLSTM (Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024, arXiv 2410.01201, section 3.2).

    f_t, i_t = σ(u_f), σ(u_i)
    h_t = f_t / (f_t + i_t) h_{t-1} + i_t / (f_t + i_t) u_h,            u_v = x W_v + b_v

All gates see x alone: the recurrence is linear, and Newton solves it in one iteration. The shares are written as
σ(-δ) and σ(δ) with δ = log i_t - log f_t, which holds where both gates underflow. (The paper's log-space form maps u_h
to positive numbers first, which is not done here.)

Initialisation is ours, after torch.nn.Linear: W and b uniform in ±1/√fan_in.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax

from jaxseq.cells.channelwise import ChannelwiseCell, Params


@dataclass(frozen=True)
class MinLSTM(ChannelwiseCell):
    """Gates f, i, h. Parameters: w (3, heads, d_input / heads, d_state / heads), b (3, d_state)."""

    gates = ("f", "i", "h")

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        key_w, key_b = jax.random.split(key)
        bound = 1 / sqrt(self.d_input // self.heads)
        return {
            "w": jax.random.uniform(key_w, self.w_shape(), minval=-bound, maxval=bound),
            "b": jax.random.uniform(key_b, (3, self.d_state), minval=-bound, maxval=bound),
        }

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(f_t / (f_t + i_t), i_t / (f_t + i_t) u_h), each (B, T, d_state) float32."""
        f, i, h = super().inputs(params, x)
        delta = jax.nn.log_sigmoid(i) - jax.nn.log_sigmoid(f)
        return jax.nn.sigmoid(-delta), jax.nn.sigmoid(delta) * h

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, jax.Array]) -> jax.Array:
        """h_t, elementwise in h (..., d_state)."""
        a, b = u
        return a * h + b
