"""LSTM whose gates see all heads (Stanić et al. 2023, "The Languini Kitchen", arXiv 2309.11197): its full LSTM.

    f_t, i_t, o_t = σ(u_f + h_{t-1} R_f), σ(u_i + h_{t-1} R_i), σ(u_o + h_{t-1} R_o),    z_t = tanh(u_z + h_{t-1} R_z)
    c_t = f_t c_{t-1} + i_t z_t,    h_t = o_t tanh(c_t),            u_v = x W_v + b_v

h_{t-1} is that of all heads side by side, and so is x: with or without heads the maps are full matrices. The paper's
code maps h to one head's width and adds that to every head; here every head has its own map. Unlike its quasi-LSTM it
has no constant in the forget gate. The heads' common output map is a layer after the cell. h stays in [-1, 1].

Initialisation is the paper's code's: weights normal of deviation 0.02, biases zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell
from jaxseq.solvers.heads import Dense
from jaxseq.solvers.structure import Block

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class BlockLSTM(RecurrentCell):
    """Gates f, i, z, o, states c, h. Parameters: those of `RecurrentCell` with one head, whatever `heads` is."""

    gates = ("f", "i", "z", "o")
    states = ("c", "h")
    invariant = {"h": (-1.0, 1.0)}

    @property
    def structure(self) -> Any:
        """Dense over all heads."""
        return Block(2) if self.recurrent == "diagonal" else Dense()

    def init(self, key: jax.Array) -> Params:
        """The paper's initialisation, see the module."""
        key_w, key_r = jax.random.split(key)
        return {
            "w": 0.02 * jax.random.normal(key_w, self.w_shape(4)),
            "r": 0.02 * jax.random.normal(key_r, self.r_shape(4)),
            "b": jnp.zeros((4, self.d_state)),
        }

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1})."""
        c, h_before = h
        f, i, z, o = (x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(z)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)

    def recur(self, r: jax.Array, h: jax.Array) -> jax.Array:
        """h R (..., d_state), over all heads."""
        return h * r if self.recurrent == "diagonal" else jnp.matmul(h, r[0], precision="highest")

    def w_shape(self, gates: int) -> tuple[int, ...]:
        """The shape of that many full input maps."""
        return gates, 1, self.d_input, self.d_state

    def r_shape(self, gates: int) -> tuple[int, ...]:
        """The shape of that many full recurrent maps, or vectors."""
        return (gates, self.d_state) if self.recurrent == "diagonal" else (gates, 1, self.d_state, self.d_state)

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Split over the outputs."""
        matrix, vector = ("gate", None, "embed", "inner"), ("gate", "inner")
        return {"w": matrix, "r": vector if self.recurrent == "diagonal" else matrix, "b": vector}
