"""NAS, the cell found by neural architecture search (Zoph and Le 2016, arXiv 1611.01578), as in torchrecurrent 0.2.5.

    p_k = u_k + h_{t-1} R_k for k in 0 ... 7
    a = tanh(σ(p_0) relu(p_1)),   b = tanh(σ(p_2) + relu(p_3))
    d = tanh(tanh(p_4) σ(p_5)),   e = σ(tanh(p_6) + σ(p_7))
    c_t = tanh(a + c_{t-1}) b,   h_t = tanh(c_t tanh(d + e))

Both states stay in [-1, 1]. Initialisation is torchrecurrent's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax.nn import relu, sigmoid
from jax.numpy import tanh

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class NAS(GlorotCell):
    """Gates 0 to 7, states c, h. See `GlorotCell` for the parameters."""

    gates = ("p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7")
    states = ("c", "h")
    invariant = {"c": (-1.0, 1.0), "h": (-1.0, 1.0)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1}), each (..., d_state)."""
        c, h_before = h
        p = [x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True)]
        a, b = tanh(sigmoid(p[0]) * relu(p[1])), tanh(sigmoid(p[2]) + relu(p[3]))
        d, e = tanh(tanh(p[4]) * sigmoid(p[5])), sigmoid(tanh(p[6]) + sigmoid(p[7]))
        c = tanh(a + c) * b
        return c, tanh(c * tanh(d + e))
