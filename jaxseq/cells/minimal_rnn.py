"""MinimalRNN (Chen 2017, arXiv 1711.06788).

    z_t = tanh(x_t W + b),   g_t = σ(h_{t-1} R + z_t M + b_r)
    h_t = g_t h_{t-1} + (1 - g_t) z_t

g (the paper's u) keeps the past. Initialisation is torchrecurrent 0.2.5's: Glorot uniform maps, zero biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.base import head_matmul
from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class MinimalRNN(GlorotCell):
    """Candidate z and gate g. See `GlorotCell` for the parameters, of which m and b_r belong to g."""

    gates = ("z",)
    recurrent_gates = ("g",)
    memory_gates = ("g",)
    recurrent_biases = ("g",)
    decay = ("w", "r", "m")
    invariant = {"h": (-1.0, 1.0)}

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(z, z M + b_r), each (B, T, d_state)."""
        (w,), (b,), (m,), (b_r,) = params["w"], params["b"], params["m"], params["b_r"]
        z = jnp.tanh(head_matmul(x, w) + b)
        return z, (z * m if self.recurrent == "diagonal" else head_matmul(z, m)) + b_r

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        z, u_g = u
        g = jax.nn.sigmoid(u_g + self.recur(params["r"][0], h))
        return g * h + (1 - g) * z
