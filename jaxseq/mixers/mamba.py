"""Mamba: a state space model whose step size, input and output depend on the token (S6; arXiv 2312.00752).

With E channels of N states each, section 3.2, algorithm 2, inside the block of figure 3:

    x, z = W_x u, W_z u;    x = SiLU(conv(x))                        u (D) is the layer's input
    [r, B, C] = W_s x                                                of sizes R, N and N
    dt = softplus(W_dt r + b_dt);    A = -exp(A_log)
    h_t = exp(dt_t A) h_{t-1} + (dt_t x_t) B_t                       each channel of x, each of the N states
    y_t = Σ_n C_tn h_tn + D x_t
    out = W_o (y SiLU(z))

The paper's Δ is dt. A is discretised exactly as in equation 4, B by Euler's rule as in the authors' code. FalconMamba
(arXiv 2410.05355) divides r, B and C by their root mean square; Jamba (arXiv 2403.19887, section 6.4) has learned gains
there besides.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import UNIFORM, Mixer, linear, scale, short_conv
from jaxseq.ops import matmul, rms_norm
from jaxseq.ops.checks import check_choice, check_positive
from jaxseq.ops.sharded import linear_scan_project
from jaxseq.ops.step_size import step_size_bias
from jaxseq.sharding import param


class Mamba(Mixer):
    """Selective state spaces between a convolution and a gate.

    Attributes:
      inner: E, the number of channels (default: 2 width).
      states: N, of each channel.
      dt_rank: R, through which the step sizes are made (default: width / 16, rounded up).
      conv_width: W, taps of the convolution.
      dt_min, dt_max: the range of the step sizes at first, log-uniform.
      select_norm: of r, B and C: "none" (Mamba), "unit" (FalconMamba: no gains) or "learned" (Jamba).
      norm_eps: of that norm.
      chunk: steps whose states exist at a time; the backward pass keeps one state per chunk.

    Parameters: E (3 D + 2 R + 3 N + W + 3), and R + 2 N more with select_norm "learned". W_o starts at 1 / √layers of
    its usual size, as in the authors' code.

    State: {"conv": (B, W - 1, E), "h": (B, N, E)} float32.
    """

    uses_depth: ClassVar[bool] = True

    inner: int | None = None
    states: int = 16
    dt_rank: int | None = None
    conv_width: int = 4
    dt_min: float = 1e-3
    dt_max: float = 0.1
    select_norm: str = "none"
    norm_eps: float = 1e-6
    chunk: int = 32

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        inner, _ = self.sizes()
        return {
            "conv": jnp.zeros((batch, self.conv_width - 1, inner), jnp.float32),
            "h": jnp.zeros((batch, self.states, inner), jnp.float32),
        }

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        inner, _ = self.sizes()
        gate = linear(self, "w_z", x, inner, ("embed", "inner"), init=UNIFORM)
        u = linear(self, "w_x", x, inner, ("embed", "inner"), init=UNIFORM)
        u, conv = short_conv(self, u, state["conv"], self.conv_width, reset=reset, mask=mask, init=UNIFORM)
        u = nn.silu(u)
        y, h = self._selective_scan(u, state["h"], reset, mask)
        layers = 1 if depth is None else depth.layers
        out = nn.initializers.variance_scaling(1 / 3 / layers, "fan_in", "uniform")
        y = linear(self, "w_o", y.astype(x.dtype) * nn.silu(gate), self.width, ("inner", "embed"), init=out)
        state = {"conv": conv, "h": h}
        return (y, state) if depth is None else (y, state, None)

    def sizes(self) -> tuple[int, int]:
        """E and R."""
        inner = 2 * self.width if self.inner is None else self.inner
        rank = -(-self.width // 16) if self.dt_rank is None else self.dt_rank
        check_positive(inner=inner, states=self.states, dt_rank=rank, conv_width=self.conv_width, chunk=self.chunk)
        check_choice("select_norm", self.select_norm, ("none", "unit", "learned"))
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"step sizes must satisfy 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")
        return inner, rank

    def _selective_scan(self, u, h0, reset, mask):
        """y (B, T, E) of u (B, T, E) and the last h (B, N, E), float32 or wider."""
        dt, b, c = self._select(u)
        log_rates = self.param("a_log", param(_log_counts, None, "inner", decay=False), (self.states, u.shape[-1]))
        d = self.param("d", param(nn.initializers.ones, "inner"), (u.shape[-1],))

        def coefficients(s, log_rates, _):
            a = jnp.exp(-s["dt"][:, :, None] * jnp.exp(log_rates))
            return a, (s["dt"] * s["u"])[:, :, None] * s["b"][..., None]

        def readout(h, s, _, d):
            return jnp.einsum("btne,btn->bte", h, s["c"], precision=jax.lax.Precision.HIGHEST) + d * s["u"]

        xs = {"u": u.astype(dt.dtype), "dt": dt, "b": b, "c": c}
        options = {"params": (log_rates, d), "reset": reset, "mask": mask, "chunk": self.chunk}
        return linear_scan_project(coefficients, readout, xs, h0, **options)

    def _select(self, u):
        """dt (B, T, E), B and C (B, T, N), float32 or wider: what is chosen by the token."""
        inner, rank = self.sizes()
        wide = jnp.promote_types(u.dtype, jnp.float32)
        w = self.param("w_select", param(UNIFORM, "inner", None), (inner, rank + 2 * self.states))
        r, b, c = jnp.split(matmul(u, w, wide), (rank, rank + self.states), axis=-1)
        r, b, c = self._norm("norm_dt", r), self._norm("norm_b", b), self._norm("norm_c", c)
        dt = linear(self, "w_dt", r, inner, (None, "inner"), init=UNIFORM)
        steps = partial(step_size_bias, low=self.dt_min, high=self.dt_max)
        return nn.softplus(dt + self.param("b_dt", param(steps, "inner"), (inner,))), b, c

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        if self.select_norm == "none":
            return x
        gain = scale(self, name, x.shape[-1], None) if self.select_norm == "learned" else None
        return rms_norm(x, gain, self.norm_eps)


def _log_counts(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """log 1, ..., log N in every channel (N, E): the real part of S4D's A."""
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[0] + 1, dtype=jnp.float32))[:, None], shape)
