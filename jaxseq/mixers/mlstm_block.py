"""The mLSTM in its first block, with an expansion before it and no MLP after it (xLSTM, arXiv 2405.04517, figure 11).

With E channels in H heads of P = E / H:

    x, z = W_x u, W_z u;    c = SiLU(conv(x))                        u (D) is the layer's input
    q, k, v = W_q c, W_k c, W_v x                                    block-diagonal, blocks of size b
    i, f = W_i [q, k, v] + b_i, W_f [q, k, v] + b_f                  a number for each head
    S_t = σ(f_t) S_{t-1} + e^{i_t} k_t v_tᵀ                          (P, P), the transpose of the paper's C
    n_t = σ(f_t) n_{t-1} + e^{i_t} k_t                               (P)
    h_t = S_tᵀ q_t / max(|n_t . q_t|, √P)                            equations 19 to 27
    y = W_o ((LayerNorm(h) + g c) SiLU(z))                           g (E) is learned

The layer norm is one per head. `mixers.mlstm` is the same memory in the block of xLSTM-7B.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import UNIFORM, Mixer, linear, scale, short_conv
from jaxseq.ops import layer_norm, matmul
from jaxseq.ops.checks import check_positive
from jaxseq.ops.mlstm import empty_memory, mlstm
from jaxseq.sharding import param


class MLSTMBlock(Mixer):
    """The mLSTM between a convolution and a gate.

    Attributes:
      inner: E, the number of channels (default: 2 width).
      heads: H.
      block: b, of the maps that make q, k and v.
      conv_width: W, taps of the convolution.
      norm_eps: of the norm.
      eps: added to the denominator.

    Parameters: E (3 D + W + 3 b + 6 H + 3) + 2 H. As in the authors' code, the maps start at N(0, 2 / (5 D)), W_o at
    N(0, 4 / (layers² D)), and the gates know nothing of x: W_i = W_f = 0, b_i from N(0, 0.01), and b_f evenly spaced
    over the heads from 3 to 6.

    State: {"conv": (B, W - 1, E), "S": (B, H, P, P), "n": (B, H, P), "m": (B, H)} float32, m -1e30 if empty.
    """

    uses_depth: ClassVar[bool] = True

    inner: int | None = None
    heads: int = 4
    block: int = 4
    conv_width: int = 4
    norm_eps: float = 1e-5
    eps: float = 1e-6

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """An empty memory."""
        inner = self._inner()
        size = inner // self.heads
        conv = jnp.zeros((batch, self.conv_width - 1, inner), jnp.float32)
        return {"conv": conv, **empty_memory(batch, self.heads, size, size)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        inner, small = self._inner(), nn.initializers.normal((2 / (5 * self.width)) ** 0.5)
        z = linear(self, "w_z", x, inner, ("embed", "inner"), init=small)
        u = linear(self, "w_x", x, inner, ("embed", "inner"), init=small)
        c, conv = short_conv(self, u, state["conv"], self.conv_width, reset=reset, mask=mask, init=UNIFORM)
        c = nn.silu(c)
        qkv = [self._blocks(name, y, small) for name, y in (("w_q", c), ("w_k", c), ("w_v", u))]
        i = self._gate("i", qkv, nn.initializers.normal(0.1))
        f = self._gate("f", qkv, lambda key, shape: jnp.linspace(3.0, 6.0, shape[0]))
        q, k, v = (y.reshape(*x.shape[:2], self.heads, -1) for y in qkv)
        h, memory = mlstm(q, k, v, i, f, {name: state[name] for name in "Snm"}, eps=self.eps, reset=reset, mask=mask)
        gain = scale(self, "norm", inner, "inner").reshape(self.heads, -1)
        y = layer_norm(h, gain, eps=self.norm_eps).reshape(c.shape).astype(x.dtype)
        y = (y + scale(self, "skip", inner, "inner").astype(x.dtype) * c) * nn.silu(z)
        out = nn.initializers.normal(2 / (1 if depth is None else depth.layers) / self.width**0.5)
        y = linear(self, "w_o", y, self.width, ("inner", "embed"), init=out)
        state = {"conv": conv, **memory}
        return (y, state) if depth is None else (y, state, None)

    def _inner(self) -> int:
        inner = 2 * self.width if self.inner is None else self.inner
        check_positive(inner=inner, heads=self.heads, block=self.block, conv_width=self.conv_width)
        for name in ("heads", "block"):
            if inner % getattr(self, name):
                raise ValueError(f"{name} = {getattr(self, name)} must divide inner = {inner}")
        return inner

    def _blocks(self, name: str, x: jax.Array, init) -> jax.Array:
        """x (B, T, E) by a block-diagonal matrix."""
        w = self.param(name, param(init, "inner", None, None), (x.shape[-1] // self.block, self.block, self.block))
        y = x.reshape(*x.shape[:2], -1, self.block)
        return jnp.einsum("btgi,gio->btgo", y, w.astype(x.dtype)).reshape(x.shape)

    def _gate(self, name: str, qkv: list[jax.Array], init) -> jax.Array:
        """What a gate is made of (B, T, H), float32 or wider."""
        shape = (3, qkv[0].shape[-1], self.heads)
        w = self.param(f"w_{name}", param(nn.initializers.zeros, None, "inner", None), shape)
        wide = jnp.promote_types(qkv[0].dtype, jnp.float32)
        parts = [matmul(x, part, wide) for x, part in zip(qkv, w, strict=True)]
        return sum(parts, start=self.param(f"b_{name}", param(init, "heads"), (self.heads,)))
