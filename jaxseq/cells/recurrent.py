"""What the gated cells share: an input map, a recurrent map and a bias for each gate.

    pre-activation of gate v:   x W_v + b_v + h R_v

A recurrent map is a matrix ("dense", block-diagonal over the heads) as most papers have it, or a vector ("diagonal"):
every channel then sees its own past alone, and Newton's linear scans cost as little as those of a linear model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxseq.cells.base import Cell, head_matmul
from jaxseq.solvers.heads import Dense, Heads

Params = dict[str, jax.Array]
FORMS = ("dense", "diagonal")


@dataclass(frozen=True)
class RecurrentCell(Cell):
    """A cell with `gates` input maps and `recurrent_gates` recurrent ones (by default as many, with the same names).

    Parameters: w (gates, heads, d_input / heads, d_state / heads), b (gates, d_state), and r: (recurrent gates, heads,
    d_state / heads, d_state / heads) in the dense form, entry [i, j] from channel i to channel j, or (recurrent gates,
    d_state) in the diagonal one.

    Attributes:
      recurrent: "dense" or "diagonal", the form of the recurrent maps.
    """

    recurrent: str = "dense"

    gates: ClassVar[tuple[str, ...]] = ()
    recurrent_gates: ClassVar[tuple[str, ...] | None] = None
    decay = ("w", "r")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recurrent not in FORMS:
            raise ValueError(f"recurrent must be one of {', '.join(FORMS)}, got {self.recurrent!r}")

    @property
    def structure(self) -> Any:
        """Dense over each head, or a small block per channel."""
        if self.recurrent == "diagonal":
            return super().structure
        return Dense() if self.heads == 1 else Heads(self.d_state // self.heads)

    def init(self, key: jax.Array) -> Params:
        """As torch.nn.RNN, GRU and LSTM do: weights uniform in ±1/√(channels of a head), zero biases."""
        key_w, key_r = jax.random.split(key)
        bound = 1 / sqrt(self.d_state // self.heads)
        return {
            "w": jax.random.uniform(key_w, self.w_shape(len(self.gates)), minval=-bound, maxval=bound),
            "r": jax.random.uniform(key_r, self.r_shape(self._recurrent_count()), minval=-bound, maxval=bound),
            "b": jnp.zeros((len(self.gates), self.d_state)),
        }

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(x W_v + b_v for every gate v), each (B, T, d_state) float32."""
        return tuple(head_matmul(x, w) + b for w, b in zip(params["w"], params["b"], strict=True))

    def recur(self, r: jax.Array, h: jax.Array) -> jax.Array:
        """h R (..., d_state) for one recurrent map r, in full float32 on every platform."""
        if self.recurrent == "diagonal":
            return h * r
        if self.heads == 1:
            return jnp.matmul(h, r[0], precision="highest")
        parts = h.reshape(*h.shape[:-1], self.heads, -1)
        return jnp.einsum("...hi,hij->...hj", parts, r, precision="highest").reshape(h.shape)

    def w_shape(self, gates: int) -> tuple[int, ...]:
        """The shape of that many input maps."""
        return gates, self.heads, self.d_input // self.heads, self.d_state // self.heads

    def r_shape(self, gates: int) -> tuple[int, ...]:
        """The shape of that many recurrent maps."""
        if self.recurrent == "diagonal":
            return gates, self.d_state
        return gates, self.heads, self.d_state // self.heads, self.d_state // self.heads

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """One head is split over its outputs, several over the heads."""
        matrix = ("gate", None, "embed", "inner") if self.heads == 1 else ("gate", "heads", "embed", None)
        vector = ("gate", "inner")
        return {"w": matrix, "r": vector if self.recurrent == "diagonal" else matrix, "b": vector}

    def _recurrent_count(self) -> int:
        return len(self.gates if self.recurrent_gates is None else self.recurrent_gates)
