"""Aaren: attention with a learned query, which makes it an RNN (Feng et al. 2024, arXiv 2405.13956, section 3.3).

    k_t, v_t = W_k x_t, W_v x_t
    s_t = q · k_t / √K
    y_t = W_o Σ_{j≤t} e^{s_j} v_j / Σ_{j≤t} e^{s_j}

for each head; q is a parameter, not made of x_t. (The authors' module makes it of a learned token by W_q. Only the
product matters, which is learned here.) What the scan carries is m = max s, u = Σ e^{s - m} and w = Σ e^{s - m} v.
"""

from __future__ import annotations

from math import sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear
from jaxseq.ops import matmul
from jaxseq.ops.algebra import FLOOR
from jaxseq.ops.checks import check_positive, check_shapes
from jaxseq.ops.sharded import softmax_scan
from jaxseq.sharding import param


class Aaren(Mixer):
    """Aaren with `heads` heads of width K = width / heads. The paper does not say how q starts: N(0, 1) here.

    Parameters: 3 width² + width.
    State: {"m": (B, heads), "u": (B, heads), "w": (B, heads, K)} float32; m is -1e30 before a document.
    """

    heads: int = 4

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """No token so far."""
        shape = (batch, self.heads, self._head_dim())
        return {"m": jnp.full(shape[:2], FLOOR), "u": jnp.zeros(shape[:2]), "w": jnp.zeros(shape)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        check_shapes(x=(x, f"B T {self.width}"))
        state = self.init_state(x.shape[0]) if state is None else state
        v = linear(self, "w_v", x, self.width, ("embed", "heads")).reshape(*x.shape[:2], self.heads, -1)
        past = state["m"], state["u"], state["w"]
        y, (m, u, w) = softmax_scan(self._scores(x), v, past, reset=reset, mask=mask)
        y = linear(self, "w_o", y.reshape(x.shape), self.width, ("heads", "embed"))
        return y, {"m": m, "u": u, "w": w}

    def _scores(self, x: jax.Array) -> jax.Array:
        """s (B, T, H), float32 or wider, as x (W_k q): H columns instead of H K."""
        shape = self.heads, self._head_dim()
        init = nn.initializers.normal(self.width**-0.5)
        keys = self.param("w_k", param(init, "embed", "heads"), (self.width, self.width))
        query = self.param("query", param(nn.initializers.normal(1.0), "heads", None, decay=False), shape)
        column = jnp.einsum("dhk,hk->dh", keys.reshape(self.width, *shape), query / sqrt(shape[1]))
        return matmul(x, column, jnp.promote_types(x.dtype, jnp.float32))

    def _head_dim(self) -> int:
        check_positive(heads=self.heads)
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width}")
        return self.width // self.heads
