"""RG-LRU: the recurrent block of Hawk and Griffin (De et al. 2024, arXiv 2402.19427, section 2).

    u_t = conv(W_x x_t + b_x)                                       W taps, depthwise
    r_t = σ(W_r u_t + b_r),   i_t = σ(W_i u_t + b_i)                block-diagonal (eq. 1, 2, its W_a and W_x)
    log a_t = -8 r_t softplus(Λ)                                    (eq. 3, as appendix A computes it)
    h_t = a_t h_{t-1} + √(1 - a_t²) (i_t u_t)                       (eq. 4)
    y_t = W_o (GELU(W_z x_t + b_z) h_t) + b_o

with E channels. Three things are as in the authors' code (RecurrentGemma) and not in the paper: the first token of a
document enters whole, h_t = i_t u_t; the derivative of √(1 - a²) is taken to be at most 1000; and exp(-softplus(Λ)),
the eighth root of a_t at r_t = 1, is what starts between min_radius and max_radius, where the paper has a_t itself
between 0.9 and 0.999 (min_radius = 0.98692, max_radius = 0.999875). GELU is its approximation by tanh.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, as_state, linear, short_conv
from jaxseq.ops.checks import check_positive
from jaxseq.ops.positions import place
from jaxseq.ops.sharded import linear_scan
from jaxseq.sharding import param

POWER = 8.0
STEEPEST = 1000.0  # bound on the derivative of √(1 - a²) with respect to 1 - a²

State = dict[str, jax.Array]


class RGLRU(Mixer):
    """Griffin's recurrent block; Hawk has no other mixer.

    Attributes:
      inner: E (default: width).
      heads: blocks of W_r and W_i, a divisor of E.
      conv_width: W, taps of the convolution.
      min_radius, max_radius: the square of exp(-softplus(Λ)) is uniform between theirs at first.
      out_variance: of W_o's entries at first, times E; RecurrentGemma's is 2 / layers.

    Parameters: 3 D E + 2 E² / heads + (W + 6) E + D.
    State: {"h": (B, E) float32, "conv": (B, W - 1, E) float32, "length": (B,) int32, tokens of the
    document so far}.
    """

    inner: int | None = None
    heads: int = 16
    conv_width: int = 4
    min_radius: float = 0.9
    max_radius: float = 0.999
    out_variance: float = 1.0

    def init_state(self, batch: int) -> State:
        """Zeros."""
        inner = self.sizes()
        return {
            "h": jnp.zeros((batch, inner), jnp.float32),
            "conv": jnp.zeros((batch, self.conv_width - 1, inner), jnp.float32),
            "length": jnp.zeros((batch,), jnp.int32),
        }

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        inner = self.sizes()
        gate = linear(self, "w_z", x, inner, ("embed", "inner"), bias=True)
        u = linear(self, "w_x", x, inner, ("embed", "inner"), bias=True)
        taps = nn.initializers.normal((0.01 / self.conv_width) ** 0.5)
        u, conv = short_conv(self, u, state["conv"], self.conv_width, reset=reset, mask=mask, init=taps)
        r, i = (jax.nn.sigmoid(self._blocks(name, u)) for name in ("r", "i"))
        log_a = -POWER * r * jax.nn.softplus(self.param("lambda", param(self._init_lambda, "inner"), (inner,)))
        _, position = place(state["length"], reset, mask, x.shape[1])
        gain = jnp.where(position[..., None] == 0, 1, bounded_sqrt(-jnp.expm1(2 * log_a)))
        h = linear_scan(jnp.exp(log_a), gain * (i * u), state["h"], reset=reset, mask=mask)
        y = (nn.gelu(gate) * h).astype(x.dtype)
        init = nn.initializers.normal((self.out_variance / inner) ** 0.5)
        y = linear(self, "w_o", y, self.width, ("inner", "embed"), bias=True, init=init)
        return y, {"h": as_state(h[:, -1]), "conv": conv, "length": position[:, -1] + 1}

    def sizes(self) -> int:
        """E."""
        inner = self.width if self.inner is None else self.inner
        check_positive(inner=inner, heads=self.heads, conv_width=self.conv_width)
        if inner % self.heads:
            raise ValueError(f"heads = {self.heads} must divide inner = {inner}")
        if not 0 < self.min_radius < self.max_radius < 1:
            got = f"{self.min_radius} and {self.max_radius}"
            raise ValueError(f"radii must satisfy 0 < min_radius < max_radius < 1, got {got}")
        if not self.out_variance > 0:
            raise ValueError(f"out_variance must be positive, got {self.out_variance}")
        return inner

    def _blocks(self, name: str, u: jax.Array) -> jax.Array:
        """W u + b in blocks, (B, T, E) float32 or wider."""
        size, dtype = u.shape[-1] // self.heads, jnp.promote_types(u.dtype, jnp.float32)
        init = nn.initializers.normal(size**-0.5)
        w = self.param(f"w_{name}", param(init, "heads", None, None), (self.heads, size, size))
        b = self.param(f"b_{name}", param(nn.initializers.zeros, "heads", None, decay=False), (self.heads, size))
        blocks = u.reshape(*u.shape[:2], self.heads, size).astype(dtype)
        return (jnp.einsum("btgk,gkj->btgj", blocks, w) + b).reshape(u.shape)

    def _init_lambda(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        square = jax.random.uniform(key, shape, minval=self.min_radius**2, maxval=self.max_radius**2)
        return jnp.log(jnp.expm1(-0.5 * jnp.log(square)))


@jax.custom_jvp
def bounded_sqrt(x: jax.Array) -> jax.Array:
    """√x with a derivative of at most 1000: RecurrentGemma's, for the decays that round to 1."""
    return jnp.sqrt(x)


@bounded_sqrt.defjvp
def _bounded_slope(primals, tangents):
    (x,), (dx,) = primals, tangents
    return jnp.sqrt(x), dx / jnp.sqrt(jnp.maximum(4 * x, STEEPEST**-2))
