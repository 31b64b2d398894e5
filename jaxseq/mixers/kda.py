"""KDA, Kimi delta attention: the delta rule with a decay per key channel (Kimi Linear, arXiv 2510.26692, section 3).

For each of H heads with keys of size K and values of size V:

    q, k, v = SiLU(conv(W_q x)), SiLU(conv(W_k x)), SiLU(conv(W_v x))
    q, k = q / ||q||, k / ||k||
    β = σ(W_β x)                                                     a number
    log α = -exp(A_log) softplus(W_dt x + b_dt)                      (K), W_dt of rank R
    S_t = (I - β_t k_t k_tᵀ) Diag(α_t) S_{t-1} + β_t k_t v_tᵀ        (K, V), equation 1
    y_t = S_tᵀ q_t / √K
    out = W_o (RMSNorm(y) σ(W_z x))                                  W_z of rank R

A bounded form, log α = L σ(exp(A_log) (W_dt x + b_dt)) with L < 0, forgets no more than e^L of a channel in a step
(transformers' BailingHybrid, which has W_dt and W_z of full rank).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, conv_heads, linear, scale
from jaxseq.ops import l2_norm, matmul, rms_norm
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import delta_rule
from jaxseq.ops.step_size import step_size_bias
from jaxseq.sharding import param


class KDA(Mixer):
    """The delta rule with decays per channel, between convolutions and a gated norm per head.

    Attributes:
      heads: H (default: width / 128, at least 1).
      key_dim: K (default: width / heads).
      value_dim: V (default: K).
      rank: R, of the maps that make the decays and the gate (default: V); 0 for full ones.
      lower_bound: L, below 0, of the bounded decay; None for the unbounded one.
      conv_width: W, taps of the convolutions.
      norm_eps: of the norm.

    Parameters: 2 H K (D + W) + H V (2 D + W) + R (2 D + H K + H V) + H (D + K + 1) + V, with D H (K + V) for the third
    term at full rank. The rates exp(A_log) start uniform in [1, 16] (at 1 in the bounded form), softplus(b_dt)
    log-uniform in [0.001, 0.1].

    State: {"conv_q", "conv_k": (B, W - 1, H K), "conv_v": (B, W - 1, H V), "S": (B, H, K, V)} float32.
    """

    heads: int | None = None
    key_dim: int | None = None
    value_dim: int | None = None
    rank: int | None = None
    lower_bound: float | None = None
    conv_width: int = 4
    norm_eps: float = 1e-5

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        heads, key, value = self._sizes()
        widths = {"conv_q": heads * key, "conv_k": heads * key, "conv_v": heads * value}
        state = {name: jnp.zeros((batch, self.conv_width - 1, n), jnp.float32) for name, n in widths.items()}
        return state | {"S": jnp.zeros((batch, heads, key, value), jnp.float32)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        heads, key, value = self._sizes()
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def branch(name, size):
            before = state[f"conv_{name}"]
            return conv_heads(self, name, x, before, heads, size, self.conv_width, reset=reset, mask=mask)

        (q, conv_q), (k, conv_k), (v, conv_v) = branch("q", key), branch("k", key), branch("v", value)
        init = nn.initializers.normal(self.width**-0.5)
        beta = matmul(x, self.param("w_beta", param(init, "embed", "heads"), (self.width, heads)), wide)
        q, k, beta = l2_norm(q.astype(wide)), l2_norm(k.astype(wide)), jax.nn.sigmoid(beta)
        log_a = self._log_decays(self._low_rank("w_dt", x, heads * key, wide))
        y, S = delta_rule(q, k, v, beta, log_a, state["S"], scale=key**-0.5, reset=reset, mask=mask)
        y = rms_norm(y, scale(self, "norm", value, None), self.norm_eps).reshape(*x.shape[:2], -1)
        y = y * jax.nn.sigmoid(self._low_rank("w_z", x, heads * value, x.dtype))
        y = linear(self, "w_o", y, self.width, ("heads", "embed"))
        return y, {"conv_q": conv_q, "conv_k": conv_k, "conv_v": conv_v, "S": S}

    def _sizes(self) -> tuple[int, int, int]:
        """H, K and V."""
        heads = max(1, self.width // 128) if self.heads is None else self.heads
        check_positive(heads=heads, conv_width=self.conv_width)
        if self.key_dim is None and self.width % heads:
            raise ValueError(f"heads = {heads} must divide width = {self.width} where key_dim is not given")
        key = self.width // heads if self.key_dim is None else self.key_dim
        value = key if self.value_dim is None else self.value_dim
        check_positive(key_dim=key, value_dim=value)
        if self.rank is not None and self.rank < 0:
            raise ValueError(f"rank must be at least 0, got {self.rank}")
        if self.lower_bound is not None and not self.lower_bound < 0:
            raise ValueError(f"lower_bound must be below 0, got {self.lower_bound}")
        return heads, key, value

    def _low_rank(self, name: str, x: jax.Array, size: int, dtype: jnp.dtype) -> jax.Array:
        """x W in `dtype`, W (D, size) or W_a W_b of `rank`."""
        rank, axis = self._sizes()[2] if self.rank is None else self.rank, "embed"
        if rank:
            x, name, axis = linear(self, f"{name}_a", x, rank, ("embed", None)), f"{name}_b", None
        init = nn.initializers.normal(x.shape[-1] ** -0.5)
        return matmul(x, self.param(name, param(init, axis, "heads"), (x.shape[-1], size)), dtype)

    def _log_decays(self, dt: jax.Array) -> jax.Array:
        """log α (B, T, H, K) of W_dt x (B, T, H K), float32 or wider."""
        heads, key, _ = self._sizes()
        bias = self.param("b_dt", param(step_size_bias, "heads"), (heads * key,))
        initial = _log_rates if self.lower_bound is None else nn.initializers.zeros
        rates = jnp.exp(self.param("a_log", param(initial, "heads"), (heads,)))[:, None]
        dt = (dt + bias).reshape(*dt.shape[:2], heads, key)
        if self.lower_bound is None:
            return -rates * nn.softplus(dt)
        return self.lower_bound * jax.nn.sigmoid(rates * dt)


def _log_rates(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=16.0))
