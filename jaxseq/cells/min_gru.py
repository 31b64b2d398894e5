"""minGRU (Feng, Tung, Ahmed, Bengio and Hajimirsadeghi 2024, arXiv 2410.01201, section 3.1).

    z_t = σ(u_z),    h_t = (1 - z_t) h_{t-1} + z_t u_h,            u_v = x W_v + b_v

Both gate and candidate see x alone: the recurrence is linear, and Newton solves it in one iteration. z weights the
candidate. (The paper's log-space form maps u_h to positive numbers first, which is not done here.)

Initialisation is ours, after torch.nn.Linear: W and b uniform in ±1/√fan_in.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax

from jaxseq.cells.channelwise import ChannelwiseCell, Params


@dataclass(frozen=True)
class MinGRU(ChannelwiseCell):
    """Gates z, h. Parameters: w (2, heads, d_input / heads, d_state / heads), b (2, d_state)."""

    gates = ("z", "h")

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        key_w, key_b = jax.random.split(key)
        bound = 1 / sqrt(self.d_input // self.heads)
        return {
            "w": jax.random.uniform(key_w, self.w_shape(), minval=-bound, maxval=bound),
            "b": jax.random.uniform(key_b, (2, self.d_state), minval=-bound, maxval=bound),
        }

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(1 - z_t, z_t u_h), each (B, T, d_state) float32."""
        z, h = super().inputs(params, x)
        return jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * h

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, jax.Array]) -> jax.Array:
        """h_t, elementwise in h (..., d_state)."""
        a, b = u
        return a * h + b
