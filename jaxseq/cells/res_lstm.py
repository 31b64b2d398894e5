"""Residual LSTM (Kim, El-Khamy and Lee 2017, arXiv 1701.03360).

    i_t = σ(u_i + h_{t-1} R_i + p_i c_{t-1}),   f_t = σ(u_f + h_{t-1} R_f + p_f c_{t-1})
    g_t = tanh(u_g + h_{t-1} R_g),   c_t = f_t c_{t-1} + i_t g_t,   o_t = σ(u_o + h_{t-1} R_o + p_o c_t)
    h_t = o_t (tanh(c_t) M + x_t S)

p are peepholes (vectors), M projects the memory, S carries the input past the cell. Every layer has S here, as in
torchrecurrent 0.2.5 (the paper adds x itself where widths agree), whose initialisation this is: maps Glorot uniform,
peepholes unit normal, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.base import head_matmul
from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class ResLSTM(GlorotCell):
    """Gates i, f, g, o, states c, h.

    Parameters: those of `GlorotCell` with m (1, ...) for M; p (3, d_state), rows i, f, o; s (1, heads, d_input / heads,
    d_state / heads) for S.
    """

    gates = ("i", "f", "g", "o")
    memory_gates = ("h",)
    states = ("c", "h")
    decay = ("w", "r", "m", "s")

    def init(self, key: jax.Array) -> Params:
        """torchrecurrent's initialisation, see the module."""
        key, key_p, key_s = jax.random.split(key, 3)
        peepholes = jax.random.normal(key_p, (3, self.d_state))
        return {**super().init(key), "p": peepholes, "s": self.input_maps(key_s, 1)}

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(u_i, u_f, u_g, u_o, x S), each (B, T, d_state)."""
        return *super().inputs(params, x), head_matmul(x, params["s"][0])

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1}), each (..., d_state)."""
        c, h_before = h
        *pre, residual = u
        (p_i, p_f, p_o), (m,) = params["p"], params["m"]
        i, f, g, o = (x + self.recur(r, h_before) for x, r in zip(pre, params["r"], strict=True))
        c = jax.nn.sigmoid(f + p_f * c) * c + jax.nn.sigmoid(i + p_i * c) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o + p_o * c) * (self.recur(m, jnp.tanh(c)) + residual)

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """As `RecurrentCell`'s."""
        axes = super().axes()
        return {**axes, "p": axes["b"], "s": axes["w"]}
