"""Quasi-LSTM (Stanić et al. 2023, "The Languini Kitchen", arXiv 2309.11197): gates see x alone.

    f_t, i_t, o_t = σ(u_f + 1), σ(u_i), σ(u_o),    z_t = tanh(u_z)
    c_t = f_t c_{t-1} + i_t z_t,    h_t = o_t tanh(c_t),            u_v = x W_v + b_v

The recurrence is linear in c, the only state: Newton solves it in one iteration. f's 1 is a constant besides b_f.

Initialisation is the paper's code's: W normal of deviation 0.02, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.channelwise import ChannelwiseCell, Params


@dataclass(frozen=True)
class QLSTM(ChannelwiseCell):
    """Gates f, i, z, o, state c. Parameters: w (4, heads, d_input / heads, d_state / heads), b (4, d_state)."""

    gates = ("f", "i", "z", "o")
    states = ("c",)

    def init(self, key: jax.Array) -> Params:
        """The paper's initialisation, see the module."""
        return {"w": 0.02 * jax.random.normal(key, self.w_shape()), "b": jnp.zeros((4, self.d_state))}

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(f_t, i_t z_t, o_t), each (B, T, d_state) float32."""
        f, i, z, o = super().inputs(params, x)
        return jax.nn.sigmoid(f + 1), jax.nn.sigmoid(i) * jnp.tanh(z), jax.nn.sigmoid(o)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """c_t, elementwise in c (..., d_state)."""
        f, b, _ = u
        return f * h + b

    def output(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """The paper's h_t (B, T, d_state)."""
        *_, o = u
        return o * jnp.tanh(h)
