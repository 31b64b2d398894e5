"""Longhorn: a state space model that solves an online regression at every step (arXiv 2407.14207, section 3).

The state of a channel is the vector h (N) with which a step of implicit gradient descent answers x_t = h . k_t,

    h_t = argmin ||h - h_{t-1}||² + β_t (h . k_t - x_t)²,

by a matrix of rank one away from the identity, of which the diagonal is kept (theorem 3.1). In the block of Mamba, with
E channels:

    x, z = W_x u, W_z u;    x = SiLU(conv(x))                        u (D) is the layer's input
    [r, k, q] = W_s x                                                of sizes R, N and N
    β = σ(W_β r + b_β);    ε_t = β_t / (1 + β_t ||k_t||²)            each channel of x
    h_t = (1 - ε_t k_t²) h_{t-1} + ε_t x_t k_t                       each channel, each of the N states
    y_t = Σ_n q_tn h_tn + D x_t
    out = W_o (y SiLU(z))

0 < 1 - ε k² <= 1 whatever the key: there is no forget gate, and none is needed for stability.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import UNIFORM, Mixer, linear, short_conv
from jaxseq.ops import matmul
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import linear_scan_project
from jaxseq.sharding import param


class Longhorn(Mixer):
    """Online regression between a convolution and a gate.

    Attributes:
      inner: E, the number of channels (default: 2 width).
      states: N, of each channel.
      beta_rank: R, through which β is made (default: width / 16, rounded up).
      conv_width: W, taps of the convolution.
      chunk: steps whose states exist at a time; the backward pass keeps one state per chunk.

    Parameters: E (3 D + 2 R + 2 N + W + 3). b_β starts at 0, W_o at 1 / √layers of its usual size, as in the authors'
    code.

    State: {"conv": (B, W - 1, E), "h": (B, N, E)} float32.
    """

    uses_depth: ClassVar[bool] = True

    inner: int | None = None
    states: int = 16
    beta_rank: int | None = None
    conv_width: int = 4
    chunk: int = 32

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        inner, _ = self._sizes()
        return {
            "conv": jnp.zeros((batch, self.conv_width - 1, inner), jnp.float32),
            "h": jnp.zeros((batch, self.states, inner), jnp.float32),
        }

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        inner, _ = self._sizes()
        gate = linear(self, "w_z", x, inner, ("embed", "inner"), init=UNIFORM)
        u = linear(self, "w_x", x, inner, ("embed", "inner"), init=UNIFORM)
        u, conv = short_conv(self, u, state["conv"], self.conv_width, reset=reset, mask=mask, init=UNIFORM)
        y, h = self._regression(nn.silu(u), state["h"], reset, mask)
        layers = 1 if depth is None else depth.layers
        out = nn.initializers.variance_scaling(1 / 3 / layers, "fan_in", "uniform")
        y = linear(self, "w_o", y.astype(x.dtype) * nn.silu(gate), self.width, ("inner", "embed"), init=out)
        state = {"conv": conv, "h": h}
        return (y, state) if depth is None else (y, state, None)

    def _sizes(self) -> tuple[int, int]:
        """E and R."""
        inner = 2 * self.width if self.inner is None else self.inner
        rank = -(-self.width // 16) if self.beta_rank is None else self.beta_rank
        check_positive(inner=inner, states=self.states, beta_rank=rank, conv_width=self.conv_width, chunk=self.chunk)
        return inner, rank

    def _regression(self, u, h0, reset, mask):
        """y (B, T, E) of u (B, T, E) and the last h (B, N, E), float32 or wider."""
        beta, k, q = self._select(u)
        step = beta / (1 + beta * jnp.sum(jnp.square(k), axis=-1, keepdims=True))
        d = self.param("d", param(nn.initializers.ones, "inner"), (u.shape[-1],))

        def coefficients(s, _):
            k, step = s["k"][..., None], s["step"][:, :, None]
            return 1 - step * jnp.square(k), step * s["u"][:, :, None] * k

        def readout(h, s, d):
            return jnp.einsum("btne,btn->bte", h, s["q"], precision=jax.lax.Precision.HIGHEST) + d * s["u"]

        xs = {"u": u.astype(beta.dtype), "step": step, "k": k, "q": q}
        options = {"params": (d,), "reset": reset, "mask": mask, "chunk": self.chunk}
        return linear_scan_project(coefficients, readout, xs, h0, **options)

    def _select(self, u):
        """β (B, T, E), k and q (B, T, N), float32 or wider: what is chosen by the token."""
        inner, rank = self._sizes()
        wide = jnp.promote_types(u.dtype, jnp.float32)
        w = self.param("w_select", param(UNIFORM, "inner", None), (inner, rank + 2 * self.states))
        r, k, q = jnp.split(matmul(u, w, wide), (rank, rank + self.states), axis=-1)
        return jax.nn.sigmoid(linear(self, "w_beta", r, inner, (None, "inner"), bias=True, init=UNIFORM)), k, q
