"""mLSTM: a matrix memory with exponential gates, in the block of xLSTM-7B (arXiv 2405.04517, 2503.13427).

For each of H heads with keys of size K and values of size V:

    q, k, v, o = W_q x, W_k x, W_v x, W_z x
    i, f = c tanh((W_i x + b_i) / c), c tanh((W_f x + b_f) / c)      a number each
    S_t = σ(f_t) S_{t-1} + e^{i_t} k_t v_tᵀ                          (K, V), the transpose of the first paper's C
    n_t = σ(f_t) n_{t-1} + e^{i_t} k_t                               (K)
    h_t = S_tᵀ q_t / max(|n_t . q_t|, √K)
    y = W_o (LayerNorm(h) σ(o))

(2405.04517, equations 19 to 27; 2503.13427, section 3.) The layer norm is one per head. S and n are kept in units of
e^{m_t} with m_t = max(log σ(f_t) + m_{t-1}, i_t), which cancel.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, scale
from jaxseq.ops import layer_norm, matmul
from jaxseq.ops.checks import check_positive
from jaxseq.ops.mlstm import empty_memory, mlstm
from jaxseq.sharding import param


class MLSTM(Mixer):
    """The mLSTM between maps of the input and a gated norm per head; an MLP is to follow.

    Attributes:
      heads: H.
      key_dim: K (default: width / (2 heads)).
      value_dim: V (default: width / heads).
      gate_cap: c, of the gates' inputs; None for no cap.
      norm_eps: of the norm.
      eps: added to the denominator.

    Parameters: 2 H K D + 3 H V D + 2 H (D + 1) + H V. As in the authors' code, W_q, W_k and W_v start at
    N(0, 2 / (5 D)), W_o at N(0, 4 / (layers² D)), and i and f know nothing of x: W_i = W_f = 0, b_i = -10, and b_f
    evenly spaced over the heads from 3 to 6. W_z starts as W_v does.

    State: {"S": (B, H, K, V), "n": (B, H, K), "m": (B, H)} float32; m is -1e30 before a document.
    """

    uses_depth: ClassVar[bool] = True

    heads: int = 4
    key_dim: int | None = None
    value_dim: int | None = None
    gate_cap: float | None = 15.0
    norm_eps: float = 1e-6
    eps: float = 1e-6

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """An empty memory."""
        return empty_memory(batch, self.heads, *self.sizes())

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        key, value = self.sizes()
        small = nn.initializers.normal((2 / (5 * self.width)) ** 0.5)

        def heads(name, size):
            y = linear(self, name, x, self.heads * size, ("embed", "heads"), init=small)
            return y.reshape(*x.shape[:2], self.heads, size)

        q, k, v, o = heads("w_q", key), heads("w_k", key), heads("w_v", value), heads("w_z", value)
        i, f = self._gate("i", x, nn.initializers.constant(-10.0)), self._gate("f", x, _from_3_to_6)
        h, state = mlstm(q, k, v, i, f, state, eps=self.eps, reset=reset, mask=mask)
        gain = scale(self, "norm", self.heads * value, "heads").reshape(self.heads, value)
        y = (layer_norm(h, gain, eps=self.norm_eps).astype(x.dtype) * jax.nn.sigmoid(o)).reshape(*x.shape[:2], -1)
        out = nn.initializers.normal(2 / (1 if depth is None else depth.layers) / self.width**0.5)
        y = linear(self, "w_o", y, self.width, ("heads", "embed"), init=out)
        return (y, state) if depth is None else (y, state, None)

    def sizes(self) -> tuple[int, int]:
        """K and V."""
        check_positive(heads=self.heads)
        if self.key_dim is None and self.width % (2 * self.heads):
            raise ValueError(f"2 heads = {2 * self.heads} must divide width = {self.width} where key_dim is not given")
        if self.value_dim is None and self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width} where value_dim is not given")
        key = self.width // (2 * self.heads) if self.key_dim is None else self.key_dim
        value = self.width // self.heads if self.value_dim is None else self.value_dim
        check_positive(key_dim=key, value_dim=value)
        if self.gate_cap is not None and not self.gate_cap > 0:
            raise ValueError(f"gate_cap must be positive or None, got {self.gate_cap}")
        return key, value

    def _gate(self, name: str, x: jax.Array, init) -> jax.Array:
        """What a gate is made of (B, T, H), float32 or wider."""
        w = self.param(f"w_{name}", param(nn.initializers.zeros, "embed", "heads"), (self.width, self.heads))
        gate = matmul(x, w, jnp.promote_types(x.dtype, jnp.float32))
        gate = gate + self.param(f"b_{name}", param(init, "heads"), (self.heads,))
        return gate if self.gate_cap is None else self.gate_cap * jnp.tanh(gate / self.gate_cap)


def _from_3_to_6(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.linspace(3.0, 6.0, shape[0])
