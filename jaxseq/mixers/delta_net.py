"""DeltaNet: linear attention that replaces what is stored at a key (arXiv 2406.06484, sections 2.2 and 3.3).

For each of H heads with keys of size K and values of size V:

    q, k, v = SiLU(conv(W_q x)), SiLU(conv(W_k x)), SiLU(conv(W_v x))
    q, k = q / ||q||, k / ||k||
    β = σ(W_β x)                                                     a number
    S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ                  (K, V), the transpose of the paper's
    y_t = S_tᵀ q_t / √K
    out = W_o RMSNorm(y)

I - β k kᵀ has the eigenvalue 1 - β at k, which β in (0, 2) makes negative: a state can then swing, and parity be kept
(arXiv 2411.12537, section 4.2).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, conv_heads, linear, scale
from jaxseq.ops import l2_norm, matmul, rms_norm
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import delta_rule
from jaxseq.sharding import param


class DeltaNet(Mixer):
    """The delta rule between convolutions and a norm per head.

    Attributes:
      heads: H (default: width / 128, at least 1).
      key_dim: K (default: width / heads).
      value_dim: V (default: K).
      beta_max: β is in (0, beta_max): 1 for the paper's, 2 for negative eigenvalues too.
      gate: multiplies the normed y by SiLU(W_z x).
      conv_width: W, taps of the convolutions.
      norm_eps: of the norm.

    Parameters: 2 H K (D + W) + H V (2 D + W) + H D + V, and H V D for the gate.

    State: {"conv_q", "conv_k": (B, W - 1, H K), "conv_v": (B, W - 1, H V), "S": (B, H, K, V)} float32.
    """

    heads: int | None = None
    key_dim: int | None = None
    value_dim: int | None = None
    beta_max: float = 1.0
    gate: bool = False
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
        beta = self.beta_max * jax.nn.sigmoid(beta)
        q, k = l2_norm(q.astype(wide)), l2_norm(k.astype(wide))
        y, S = delta_rule(q, k, v, beta, None, state["S"], scale=key**-0.5, reset=reset, mask=mask)
        y = rms_norm(y, scale(self, "norm", value, None), self.norm_eps).reshape(*x.shape[:2], -1)
        if self.gate:
            y = y * nn.silu(linear(self, "w_z", x, heads * value, ("embed", "heads")))
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
        if not 0 < self.beta_max <= 2:
            raise ValueError(f"beta_max must be in (0, 2], where the state stays bounded, got {self.beta_max}")
        return heads, key, value
