"""RAN, the recurrent additive network (Lee, Levy and Zettlemoyer 2017, arXiv 1705.07393).

    i_t = σ(u_i + h_{t-1} R_i),   f_t = σ(u_f + h_{t-1} R_f)
    c_t = i_t (x_t W_c) + f_t c_{t-1},   h_t = tanh(c_t)

The state is c alone: h is its function, and the output. The content x W_c has no bias, as in torchrecurrent
0.2.5. Initialisation is torchrecurrent's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.base import head_matmul
from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class RAN(GlorotCell):
    """Content c, which has no bias and no recurrent map, and gates i, f; state c. See `GlorotCell`."""

    gates = ("c", "i", "f")
    recurrent_gates = ("i", "f")
    biases = ("i", "f")
    states = ("c",)

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(x W_c, u_i, u_f), each (B, T, d_state)."""
        content, *gates = (head_matmul(x, w) for w in params["w"])
        return content, *(p + b for p, b in zip(gates, params["b"], strict=True))

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """c_t from c_{t-1} (..., d_state)."""
        r_i, r_f = params["r"]
        content, u_i, u_f = u
        c, h_before = h, jnp.tanh(h)
        i = jax.nn.sigmoid(u_i + self.recur(r_i, h_before))
        f = jax.nn.sigmoid(u_f + self.recur(r_f, h_before))
        return i * content + f * c

    def output(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t = tanh(c_t), (B, T, d_state)."""
        return jnp.tanh(h)
