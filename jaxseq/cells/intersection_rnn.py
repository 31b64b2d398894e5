"""Intersection RNN, +RNN (Collins, Sohl-Dickstein and Sussillo 2016, arXiv 1611.09913).

    y~_t = relu(u_y + h_{t-1} R_y),   h~_t = tanh(u_h + h_{t-1} R_h),   g_v = σ(u_gv + h_{t-1} R_gv) for v in y, h
    y_t = g_y x_t + (1 - g_y) y~_t,   h_t = g_h h_{t-1} + (1 - g_h) h~_t

Highways in depth (x to y) and in time (h), so that d_input must be d_state. y is held as a state because its gate needs
h_{t-1}; nothing depends on it, so that its column of the Jacobian is zero. Initialisation is torchrecurrent 0.2.5's: W
and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class IntersectionRNN(GlorotCell):
    """Candidates y, h and their gates gy, gh; states h, y. See `GlorotCell` for the parameters."""

    gates = ("y", "h", "gy", "gh")
    states = ("h", "y")
    invariant = {"h": (-1.0, 1.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_input != self.d_state:
            raise ValueError(f"d_input must be d_state = {self.d_state}, which x is mixed with, got {self.d_input}")

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """The four pre-activations and x, each (B, T, d_state)."""
        u = super().inputs(params, x)
        return *u, x.astype(u[0].dtype)

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(h_t, y_t) from (h_{t-1}, y_{t-1}), each (..., d_state)."""
        h_before, _ = h
        *pre, x = u
        y, n, gy, gh = (p + self.recur(r, h_before) for p, r in zip(pre, params["r"], strict=True))
        gy, gh = jax.nn.sigmoid(gy), jax.nn.sigmoid(gh)
        return gh * h_before + (1 - gh) * jnp.tanh(n), gy * x + (1 - gy) * jax.nn.relu(y)
