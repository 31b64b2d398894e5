"""Gated DeltaNet: the delta rule with a decay per head (arXiv 2412.06464, section 3).

For each of H heads with keys of size K and values of size V:

    q, k, v = SiLU(conv(W_q x)), SiLU(conv(W_k x)), SiLU(conv(W_v x))
    q, k = q / ||q||, k / ||k||
    β = σ(W_β x);    log α = -exp(A_log) softplus(W_dt x + b_dt)     a number each
    S_t = α_t (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ              (K, V), the transpose of the paper's (equation 10)
    y_t = S_tᵀ q_t / √K
    out = W_o (RMSNorm(y) SiLU(W_z x))

Several heads of v may share one of q and k. With β in (0, 2), 1 - β, the eigenvalue at k, may be negative (arXiv
2411.12537).
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, conv_heads, linear, scale
from jaxseq.ops import l2_norm, matmul, rms_norm
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import delta_rule
from jaxseq.ops.step_size import step_size_bias
from jaxseq.sharding import param


class GatedDeltaNet(Mixer):
    """The gated delta rule between convolutions and a gated norm per head.

    Attributes:
      heads: G, of q and k (default: 3 width / 1024, at least 1, so that keys are of size 256).
      value_heads: H, of v, a multiple of heads (default: heads).
      key_dim: K (default: 3/4 width / heads).
      value_dim: V (default: 2 K).
      beta_max: β is in (0, beta_max): 1 for the paper's, 2 for negative eigenvalues too.
      dt_min, dt_max: the range of softplus(b_dt) at first, log-uniform.
      conv_width: W, taps of the convolutions.
      norm_eps: of the norm.

    Parameters: 2 G K (D + W) + H V (3 D + W) + 2 H (D + 1) + V. The rates exp(A_log) start uniform in [0.01, 16] (the
    authors' 0 has no logarithm), and all matrices at N(0, 1/fan-in).

    State: {"conv_q", "conv_k": (B, W - 1, G K), "conv_v": (B, W - 1, H V), "S": (B, H, K, V)} float32.
    """

    heads: int | None = None
    value_heads: int | None = None
    key_dim: int | None = None
    value_dim: int | None = None
    beta_max: float = 1.0
    dt_min: float = 1e-3
    dt_max: float = 0.1
    conv_width: int = 4
    norm_eps: float = 1e-5

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        groups, heads, key, value = self._sizes()
        widths = {"conv_q": groups * key, "conv_k": groups * key, "conv_v": heads * value}
        state = {name: jnp.zeros((batch, self.conv_width - 1, n), jnp.float32) for name, n in widths.items()}
        return state | {"S": jnp.zeros((batch, heads, key, value), jnp.float32)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        groups, heads, key, value = self._sizes()
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def branch(name, heads, size):
            before = state[f"conv_{name}"]
            return conv_heads(self, name, x, before, heads, size, self.conv_width, reset=reset, mask=mask)

        (q, conv_q), (k, conv_k) = branch("q", groups, key), branch("k", groups, key)
        v, conv_v = branch("v", heads, value)
        beta, log_a = self._gates(x)
        q, k = l2_norm(q.astype(wide)), l2_norm(k.astype(wide))
        y, S = delta_rule(q, k, v, beta, log_a, state["S"], scale=key**-0.5, reset=reset, mask=mask)
        y = rms_norm(y, scale(self, "norm", value, None), self.norm_eps).reshape(*x.shape[:2], -1)
        y = y * nn.silu(linear(self, "w_z", x, heads * value, ("embed", "heads")))
        y = linear(self, "w_o", y, self.width, ("heads", "embed"))
        return y, {"conv_q": conv_q, "conv_k": conv_k, "conv_v": conv_v, "S": S}

    def _sizes(self) -> tuple[int, int, int, int]:
        """G, H, K and V."""
        groups = max(1, 3 * self.width // 1024) if self.heads is None else self.heads
        heads = groups if self.value_heads is None else self.value_heads
        check_positive(heads=groups, value_heads=heads, conv_width=self.conv_width)
        if heads % groups:
            raise ValueError(f"value_heads = {heads} must be a multiple of heads = {groups}")
        key = 3 * self.width // (4 * groups) if self.key_dim is None else self.key_dim
        value = 2 * key if self.value_dim is None else self.value_dim
        check_positive(key_dim=key, value_dim=value)
        if not 0 < self.beta_max <= 2:
            raise ValueError(f"beta_max must be in (0, 2], where the state stays bounded, got {self.beta_max}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"step sizes must satisfy 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")
        return groups, heads, key, value

    def _gates(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """β and log α (B, T, H), float32 or wider."""
        _, heads, _, _ = self._sizes()
        wide, init = jnp.promote_types(x.dtype, jnp.float32), nn.initializers.normal(self.width**-0.5)
        w = {name: self.param(name, param(init, "embed", "heads"), (self.width, heads)) for name in ("w_beta", "w_dt")}
        steps = partial(step_size_bias, low=self.dt_min, high=self.dt_max)
        bias = self.param("b_dt", param(steps, "heads"), (heads,))
        rates = jnp.exp(self.param("a_log", param(_log_rates, "heads"), (heads,)))
        beta = self.beta_max * jax.nn.sigmoid(matmul(x, w["w_beta"], wide))
        return beta, -rates * nn.softplus(matmul(x, w["w_dt"], wide) + bias)


def _log_rates(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.log(jax.random.uniform(key, shape, minval=0.01, maxval=16.0))
