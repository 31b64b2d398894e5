"""Structurally constrained recurrent network (Mikolov, Joulin, Chopra, Mathieu and Ranzato 2015, arXiv 1412.7753).

    s_t = (1 - α) u_s + α s_{t-1}
    h_t = σ(u_h + s_t P + h_{t-1} R),    y_t = h_t U + s_t V,            u_v = x W_v + b_v

s is a slow linear memory, h the fast nonlinear one. y's own nonlinearity, a softmax in the paper, is a layer after the
cell. The paper has no biases and gives s a width of its own; here both states are equally wide. h stays in [0, 1].

`OutputSCRN` is what the package torchrecurrent calls SCRN: the state fed back is y, and α is a parameter,

    k_t = σ(u_h + s_t P + y_{t-1} R),    y_t = tanh(k_t U + s_t V + b_y).

Initialisation is ours: all maps uniform in ±1/√(channels of a head), zero biases. α starts at 0.95 in both, the value
that the paper fixes (torchrecurrent has 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.base import head_matmul
from jaxseq.cells.recurrent import Params, RecurrentCell

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class SCRN(RecurrentCell):
    """Gates s, h, recurrent maps P, R, states s, h.

    Parameters: those of `RecurrentCell` and o (2, heads, d_state / heads, d_state / heads), U and V.

    Attributes:
      alpha: α, how much of s a step keeps.
    """

    alpha: float = 0.95

    gates = ("s", "h")
    states = ("s", "h")
    invariant = {"h": (0.0, 1.0)}
    decay = ("w", "r", "o")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}")

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        key_o, key = jax.random.split(key)
        width = self.d_state // self.heads
        bound = 1 / sqrt(width)
        maps = jax.random.uniform(key_o, (2, self.heads, width, width), minval=-bound, maxval=bound)
        return {**super().init(key), "o": maps}

    def step(self, params: Params, h: State, u: tuple[jax.Array, jax.Array]) -> State:
        """(s_t, h_t) from (s_{t-1}, h_{t-1})."""
        s, h_before = h
        p, r = params["r"]
        u_s, u_h = u
        s = (1 - self.alpha) * u_s + self.alpha * s
        return s, jax.nn.sigmoid(u_h + self.recur(p, s) + self.recur(r, h_before))

    def output(self, params: Params, h: State, u: tuple[jax.Array, jax.Array]) -> jax.Array:
        """y_t (B, T, d_state)."""
        s, h_after = h
        o_h, o_s = params["o"]
        return head_matmul(h_after, o_h) + head_matmul(s, o_s)

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Those of `RecurrentCell`; the output maps are split as the input maps are."""
        return {**super().axes(), "o": super().axes()["w"]}


@dataclass(frozen=True)
class OutputSCRN(RecurrentCell):
    """Gates s, h, recurrent maps P, R, U, V, states s, y.

    Parameters: those of `RecurrentCell`, by (d_state), and alpha, a scalar.
    """

    gates = ("s", "h")
    recurrent_gates = ("p", "r", "u", "v")
    states = ("s", "y")
    invariant = {"y": (-1.0, 1.0)}

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        return {**super().init(key), "by": jnp.zeros(self.d_state), "alpha": jnp.full((), 0.95)}

    def step(self, params: Params, h: State, u: tuple[jax.Array, jax.Array]) -> State:
        """(s_t, y_t) from (s_{t-1}, y_{t-1})."""
        s, y = h
        r_p, r_r, r_u, r_v = params["r"]
        u_s, u_h = u
        s = (1 - params["alpha"]) * u_s + params["alpha"] * s
        k = jax.nn.sigmoid(u_h + self.recur(r_p, s) + self.recur(r_r, y))
        return s, jnp.tanh(self.recur(r_u, k) + self.recur(r_v, s) + params["by"])

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Those of `RecurrentCell`, and y's bias."""
        return {**super().axes(), "by": ("inner",)}
