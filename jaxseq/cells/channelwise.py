"""What the cells share whose channels never mix over time: an input map and a bias for each gate, and vectors.

    pre-activation of gate v:   x W_v + b_v + a_v h

With several heads W_v is block-diagonal.
"""

from __future__ import annotations

from typing import ClassVar

import jax

from jaxseq.cells.base import Cell, head_matmul

Params = dict[str, jax.Array]


class ChannelwiseCell(Cell):
    """A cell with `gates` input maps whose other parameters are vectors over the channels.

    Parameters: w (gates, heads, d_input / heads, d_state / heads), b (gates, d_state), and for every name in `vectors`
    an array (so many of them, d_state).
    """

    gates: ClassVar[tuple[str, ...]] = ()
    vectors: ClassVar[tuple[str, ...]] = ()
    decay = ("w",)

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(x W_v + b_v for every gate v), each (B, T, d_state) float32."""
        return tuple(head_matmul(x, w) + b for w, b in zip(params["w"], params["b"], strict=True))

    def w_shape(self) -> tuple[int, ...]:
        """The shape of the input maps."""
        return len(self.gates), self.heads, self.d_input // self.heads, self.d_state // self.heads

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """One head is split over its outputs, several over the heads."""
        matrix = ("gate", None, "embed", "inner") if self.heads == 1 else ("gate", "heads", "embed", None)
        return {"w": matrix, **dict.fromkeys(("b", *self.vectors), ("gate", "inner"))}
