"""Mamba-2: a state space model with one decay per head, computed by matmuls (SSD; arXiv 2405.21060, section 7).

With H heads of P channels and N states per channel (figure 6, the parallel block; E = H P):

    x, z, B, C, dt = W_x u, W_z u, W_B u, W_C u, W_dt u              u (D) is the layer's input
    x, B, C = SiLU(conv(x, B, C))
    dt = softplus(dt + b_dt);    A = -exp(A_log)                     one of each per head
    S_t = exp(dt_t A) S_{t-1} + B_t (dt_t x_t)ᵀ                      (N, P), the transpose of the paper's
    y_t = S_tᵀ C_t + D x_t
    out = W_o RMSNorm(y SiLU(z))

G groups of heads share B and C, as query heads share keys and values in grouped-query attention; the norm is taken over
the channels of a group at a time (section 7.3 has it over all, G = 1).
"""

from __future__ import annotations

from functools import partial
from math import gcd
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import UNIFORM, Mixer, linear, scale, short_conv
from jaxseq.ops import matmul, rms_norm
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import linear_attention
from jaxseq.ops.step_size import step_size_bias
from jaxseq.sharding import param


class Mamba2(Mixer):
    """State space duality between a convolution and a gated norm.

    Attributes:
      inner: E, the number of channels (default: 2 width).
      head_dim: P, channels of a head (default: 64, or the largest divisor it has in common with E).
      states: N, of each channel.
      groups: G, of heads that share B and C; and of channels of the norm.
      conv_width: W, taps of the convolutions.
      dt_min, dt_max: the range of the step sizes at first, log-uniform.
      norm_eps: of the norm.

    Parameters: E (3 D + W + 2) + 2 G N (D + W + 1) + H (D + 3). The rates exp(A_log) start uniform in [1, 16], W_o at
    1 / √layers of its usual size, as in the authors' code.

    State: {"conv_x": (B, W - 1, E), "conv_bc": (B, W - 1, 2 G N), "S": (B, H, N, P)} float32.
    """

    uses_depth: ClassVar[bool] = True

    inner: int | None = None
    head_dim: int | None = None
    states: int = 128
    groups: int = 1
    conv_width: int = 4
    dt_min: float = 1e-3
    dt_max: float = 0.1
    norm_eps: float = 1e-5

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        inner, heads = self.sizes()
        return {
            "conv_x": jnp.zeros((batch, self.conv_width - 1, inner), jnp.float32),
            "conv_bc": jnp.zeros((batch, self.conv_width - 1, 2 * self.groups * self.states), jnp.float32),
            "S": jnp.zeros((batch, heads, self.states, inner // heads), jnp.float32),
        }

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        inner, _ = self.sizes()
        z = linear(self, "w_z", x, inner, ("embed", "inner"), init=UNIFORM)
        u = linear(self, "w_x", x, inner, ("embed", "inner"), init=UNIFORM)
        bc = linear(self, "w_bc", x, 2 * self.groups * self.states, ("embed", None), init=UNIFORM)
        conv = partial(short_conv, self, taps=self.conv_width, reset=reset, mask=mask, init=UNIFORM)
        u, conv_x = conv(u, state["conv_x"], name="conv_x")
        bc, conv_bc = conv(bc, state["conv_bc"], name="conv_bc", axis=None)
        y, S = self._ssd(self._step_sizes(x), nn.silu(u), nn.silu(bc), state["S"], reset, mask)
        y = self._group_norm(y * nn.silu(z)).astype(x.dtype)
        layers = 1 if depth is None else depth.layers
        out = nn.initializers.variance_scaling(1 / 3 / layers, "fan_in", "uniform")
        y = linear(self, "w_o", y, self.width, ("inner", "embed"), init=out)
        state = {"conv_x": conv_x, "conv_bc": conv_bc, "S": S}
        return (y, state) if depth is None else (y, state, None)

    def sizes(self) -> tuple[int, int]:
        """E and H."""
        inner = 2 * self.width if self.inner is None else self.inner
        check_positive(inner=inner, states=self.states, groups=self.groups, conv_width=self.conv_width)
        head_dim = gcd(64, inner) if self.head_dim is None else self.head_dim
        check_positive(head_dim=head_dim)
        if inner % head_dim:
            raise ValueError(f"head_dim = {head_dim} must divide inner = {inner}")
        if (inner // head_dim) % self.groups:
            raise ValueError(f"groups = {self.groups} must divide inner / head_dim = {inner // head_dim}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"step sizes must satisfy 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")
        return inner, inner // head_dim

    def _step_sizes(self, x: jax.Array) -> jax.Array:
        """dt (B, T, H), float32 or wider."""
        _, heads = self.sizes()
        w = self.param("w_dt", param(UNIFORM, "embed", "heads"), (self.width, heads))
        steps = partial(step_size_bias, low=self.dt_min, high=self.dt_max)
        bias = self.param("b_dt", param(steps, "heads"), (heads,))
        return nn.softplus(matmul(x, w, jnp.promote_types(x.dtype, jnp.float32)) + bias)

    def _ssd(self, dt, u, bc, S, reset, mask):
        """y (B, T, E), float32 or wider, and the last S, from x (B, T, E), B and C (B, T, 2 G N)."""
        heads = dt.shape[-1]
        rates = jnp.exp(self.param("a_log", param(_log_rates, "heads"), (heads,)))
        d = self.param("d", param(nn.initializers.ones, "heads"), (heads,))
        k, q = jnp.split(bc.reshape(*bc.shape[:2], 2 * self.groups, self.states), 2, axis=2)
        u = u.reshape(*u.shape[:2], heads, -1).astype(dt.dtype)
        y, S = linear_attention(q, k, dt[..., None] * u, -dt * rates, S, reset=reset, mask=mask)
        return (y + d[:, None] * u).reshape(*u.shape[:2], -1), S

    def _group_norm(self, y: jax.Array) -> jax.Array:
        grouped = y.reshape(*y.shape[:2], self.groups, -1)
        return rms_norm(grouped, eps=self.norm_eps).reshape(y.shape) * scale(self, "norm", y.shape[-1], "inner")


def _log_rates(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=16.0))
