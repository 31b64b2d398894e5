"""A block-diagonal, input-dependent linear RNN (Fan, Chi and Rudnicky 2023, arXiv 2309.07412, section 4).

    Ã_t = W_2 ReLU(W_1 x_t + b_1) + b_2                             G blocks of K x K, D = G K
    Â_t = Ã_t less the mean of each of its columns
    A_t = Â_t / max_j ‖column j of Â_t‖_1.2
    v_t = W_4 ReLU(W_3 x_t + b_3) + b_4
    h_t = A_t h_{t-1} + v_t,    h before a document is learned
    y_t = W_o LayerNorm(h_t) + b_o

Each block is divided by its largest column, so that products of blocks stay bounded in practice; the paper proves no
contraction. The paper reads h out once, by LayerNorm and an MLP with ReLU: here a map follows the norm, and the model's
own MLP that.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, scale
from jaxseq.ops import layer_norm
from jaxseq.ops.checks import check_positive
from jaxseq.ops.positions import place
from jaxseq.ops.sharded import block_scan
from jaxseq.sharding import param

POWER = 1.2
SMALL = 1e-12  # to the sums under the norm: a block of equal rows has no column to divide by


class BlockLRNN(Mixer):
    """The block-diagonal LRNN.

    Attributes:
      block: K, at least 2, a divisor of width.
      hidden: width of the layer between W_1 and W_2 (default: width · K).

    Parameters: (D + 1) hidden + (hidden + 1) D K + 3 (D² + D) + 3 D.
    State: {"h": (B, D / K, K) float32, "length": (B,) int32, tokens of the document so far}.
    """

    block: int = 8
    hidden: int | None = None

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros: what a document starts with is added at its first token."""
        shape = (batch, self.width // self.sizes()[0], self.block)
        return {"h": jnp.zeros(shape, jnp.float32), "length": jnp.zeros((batch,), jnp.int32)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        size, hidden = self.sizes()
        groups, wide = self.width // size, jnp.promote_types(x.dtype, jnp.float32)
        A = self._mlp(x, ("w_1", "w_2"), hidden, self.width * size).astype(wide)
        A = normalized(A.reshape(*x.shape[:2], groups, size, size))
        v = self._mlp(x, ("w_3", "w_4"), self.width, self.width).astype(wide).reshape(*x.shape[:2], groups, size)
        start = self.param("start", param(nn.initializers.normal(1.0), None, None, decay=False), (groups, size))
        _, position = place(state["length"], reset, mask, x.shape[1])
        v = v + jnp.where(position[..., None, None] == 0, jnp.sum(A * start[:, None], axis=-1), 0)
        h = block_scan(A, v, state["h"], reset=reset, mask=mask)
        bias = self.param("norm_b", param(nn.initializers.zeros, "embed"), (self.width,))
        y = layer_norm(h.reshape(x.shape), scale(self, "norm", self.width, "embed"), bias).astype(x.dtype)
        y = linear(self, "w_o", y, self.width, ("inner", "embed"), bias=True)
        return y, {"h": h[:, -1], "length": position[:, -1] + 1}

    def _mlp(self, x: jax.Array, names: tuple[str, str], hidden: int, features: int) -> jax.Array:
        x = nn.relu(linear(self, names[0], x, hidden, ("embed", "inner"), bias=True))
        return linear(self, names[1], x, features, ("inner", None), bias=True)

    def sizes(self) -> tuple[int, int]:
        """K and the hidden width."""
        hidden = self.width * self.block if self.hidden is None else self.hidden
        check_positive(block=self.block, hidden=hidden)
        if self.block < 2 or self.width % self.block:
            raise ValueError(f"block must be at least 2 and divide width = {self.width}, got {self.block}")
        return self.block, hidden


def normalized(A: jax.Array) -> jax.Array:
    """Blocks (..., K, K) with columns of mean zero, divided by the largest 1.2-norm of a column."""
    A = A - jnp.mean(A, axis=-2, keepdims=True)
    columns = jnp.sum(jnp.abs(A) ** POWER, axis=-2, keepdims=True) + SMALL
    return A / jnp.max(columns, axis=-1, keepdims=True) ** (1 / POWER)
