"""T-RNN, T-GRU and T-LSTM, strongly typed recurrent networks (Balduzzi and Ghifary 2016, arXiv 1602.02218).

    p_v = x_t W_v + x_{t-1} V_v + b_v for v in z, f, o      (T-RNN: x_t W_v + b_v for v in z, f)
    T-RNN:    h_t = σ(p_f) h_{t-1} + (1 - σ(p_f)) p_z
    T-GRU:    h_t = σ(p_f) h_{t-1} + p_z tanh(p_o)
    T-LSTM:   c_t = σ(p_f) c_{t-1} + (1 - σ(p_f)) p_z,   h_t = c_t tanh(p_o)

No gate sees a state, so that one Newton iteration solves them. What the next step needs of x_t, the products x_t V_v,
is held as states named after the gates; x before a document is zero. T-LSTM's h is a state too because p_o is gone
after the step. Initialisation is torchrecurrent 0.2.5's: W and V Glorot uniform, b zero (its T-RNN has b_z too, which
the paper's has not).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseq.cells.base import Cell, head_matmul

Params = dict[str, jax.Array]
State = tuple[jax.Array, ...]
Inputs = tuple[jax.Array, ...]


@dataclass(frozen=True)
class TRNN(Cell):
    """Parameters: w (2, heads, d_input / heads, d_state / heads), b (2, d_state), candidate z and gate f."""

    gates: ClassVar[tuple[str, ...]] = ("z", "f")
    decay = ("w",)

    def init(self, key: jax.Array) -> Params:
        """torchrecurrent's initialisation, see the module."""
        return {"w": self.input_maps(key), "b": jnp.zeros((len(self.gates), self.d_state))}

    def input_maps(self, key: jax.Array) -> jax.Array:
        """Glorot uniform maps, (gates, heads, d_input / heads, d_state / heads)."""
        d_in, d_out, gates = self.d_input // self.heads, self.d_state // self.heads, len(self.gates)
        bound = sqrt(6 / (d_in + gates * d_out))
        return jax.random.uniform(key, (gates, self.heads, d_in, d_out), minval=-bound, maxval=bound)

    def inputs(self, params: Params, x: jax.Array) -> Inputs:
        """x W_v + b_v for every gate v, each (B, T, d_state)."""
        return tuple(head_matmul(x, w) + b for w, b in zip(params["w"], params["b"], strict=True))

    def step(self, params: Params, h: jax.Array, u: Inputs) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        z, f = u
        f = jax.nn.sigmoid(f)
        return f * h + (1 - f) * z

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """One head is split over its outputs, several over the heads."""
        matrix = ("gate", None, "embed", "inner") if self.heads == 1 else ("gate", "heads", "embed", None)
        return {"w": matrix, "v": matrix, "b": ("gate", "inner")}


@dataclass(frozen=True)
class TGRU(TRNN):
    """Parameters: w and v (3, heads, d_input / heads, d_state / heads), b (3, d_state), gates z, f, o."""

    gates = ("z", "f", "o")
    states = ("z", "f", "o", "h")
    decay = ("w", "v")

    def init(self, key: jax.Array) -> Params:
        """torchrecurrent's initialisation, see the module."""
        key_w, key_v = jax.random.split(key)
        return {**super().init(key_w), "v": self.input_maps(key_v)}

    def inputs(self, params: Params, x: jax.Array) -> Inputs:
        """x W_v + b_v, then x V_v, for every gate v, each (B, T, d_state)."""
        return *super().inputs(params, x), *(head_matmul(x, v) for v in params["v"])

    def step(self, params: Params, h: State, u: Inputs) -> State:
        """(x_t V_z, x_t V_f, x_t V_o, h_t) from those of the step before, each (..., d_state)."""
        z, f, o = (now + before for now, before in zip(u[:3], h[:3], strict=True))
        return *u[3:], jax.nn.sigmoid(f) * h[3] + z * jnp.tanh(o)


@dataclass(frozen=True)
class TLSTM(TGRU):
    """Parameters as TGRU's; states z, f, o, c, h."""

    states = ("z", "f", "o", "c", "h")

    def step(self, params: Params, h: State, u: Inputs) -> State:
        """(x_t V_z, x_t V_f, x_t V_o, c_t, h_t) from those of the step before, each (..., d_state)."""
        z, f, o = (now + before for now, before in zip(u[:3], h[:3], strict=True))
        c = TRNN.step(self, params, h[3], (z, f))
        return *u[3:], c, c * jnp.tanh(o)
