"""eLSTM (Irie, Gopalakrishnan and Schmidhuber 2023, arXiv 2305.19044).

    f_t = σ(u_f + a_f c_{t-1}),    z_t = tanh(u_z + a_z c_{t-1})
    c_t = f_t c_{t-1} + (1 - f_t) z_t
    o_t = σ(u_o + c_t R_o),        h_t = o_t c_t,            u_v = x W_v + b_v

The recurrence is elementwise in c, which alone is the state; the matrix R_o (block-diagonal over the heads) is in the
output, outside of it. (Some of the authors' code has o_t tanh(c_t) instead.) c stays in [-1, 1].

Initialisation is the authors' code's: everything normal of deviation 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.base import head_matmul
from jaxseq.cells.channelwise import ChannelwiseCell, Params


@dataclass(frozen=True)
class ELSTM(ChannelwiseCell):
    """Gates f, z, o, state c.

    Parameters: a (2, d_state) for f and z, w (3, heads, d_input / heads, d_state / heads), b (3, d_state),
    o (heads, d_state / heads, d_state / heads).
    """

    gates = ("f", "z", "o")
    vectors = ("a",)
    states = ("c",)
    invariant = {"c": (-1.0, 1.0)}
    decay = ("w", "o")

    def init(self, key: jax.Array) -> Params:
        """The authors' initialisation, see the module."""
        width = self.d_state // self.heads
        shapes = {
            "a": (2, self.d_state),
            "w": self.w_shape(),
            "b": (3, self.d_state),
            "o": (self.heads, width, width),
        }
        keys = jax.random.split(key, len(shapes))
        return {name: 0.1 * jax.random.normal(k, shapes[name]) for name, k in zip(shapes, keys, strict=True)}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """c_t, elementwise in c (..., d_state)."""
        a_f, a_z = params["a"]
        u_f, u_z, _ = u
        f = jax.nn.sigmoid(u_f + a_f * h)
        z = jnp.tanh(u_z + a_z * h)
        return f * h + (1 - f) * z

    def output(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """The paper's h_t (B, T, d_state)."""
        *_, u_o = u
        return jax.nn.sigmoid(u_o + head_matmul(h, params["o"])) * h

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """One head's R_o is split over its outputs, several over the heads."""
        return {**super().axes(), "o": (None, None, "inner") if self.heads == 1 else ("heads", None, None)}
