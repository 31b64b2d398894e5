"""GLA: gated linear attention (Yang et al. 2023, arXiv 2312.06635, sections 3 and 4.4).

    q_t, k_t, v_t = W_q x_t, W_k x_t, W_v x_t
    log α_t = log σ(W_2 W_1 x_t + b) / τ                            one decay per key channel, τ = 16
    S_t = diag(α_t) S_{t-1} + k_t v_tᵀ,   o_t = S_tᵀ q_t / √K       for each of H heads
    y_t = W_o (RMSNorm(o_t) SiLU(W_g x_t))

The norm is over a head and has one gain for all heads, as in flash-linear-attention, whose short convolutions of q, k
and v, followed by SiLU, are optional.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, scale, short_conv
from jaxseq.ops import rms_norm
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import linear_attention


class GLA(Mixer):
    """Gated linear attention.

    Attributes:
      heads: H.
      key_width: of all heads' keys, H K (default: width / 2).
      value_width: of all heads' values, H V (default: width).
      gate_rank: of W_2 W_1.
      temperature: τ.
      conv_width: taps of the convolutions of q, k and v; 0 for none.

    Parameters: 2 D (HK) + 3 D (HV) + (D + HK) rank + HK + V, and W (2 HK + HV) without biases for the convolutions.
    State: {"S": (B, H, K, V) float32; with convolutions "conv_q", "conv_k": (B, W - 1, HK) and "conv_v": (B, W - 1, HV)
    float32}.
    """

    heads: int = 4
    key_width: int | None = None
    value_width: int | None = None
    gate_rank: int = 16
    temperature: float = 16.0
    conv_width: int = 0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        keys, values = self._widths()
        state = {"S": jnp.zeros((batch, self.heads, keys // self.heads, values // self.heads), jnp.float32)}
        if self.conv_width:
            widths = {"q": keys, "k": keys, "v": values}
            state |= {f"conv_{n}": jnp.zeros((batch, self.conv_width - 1, w), jnp.float32) for n, w in widths.items()}
        return state

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        keys, values = self._widths()
        after: dict[str, Any] = {}

        def heads(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:2], self.heads, -1)

        def mapped(name: str, width: int) -> jax.Array:
            y = linear(self, f"w_{name}", x, width, ("embed", "heads"))
            if not self.conv_width:
                return heads(y)
            kind = {"reset": reset, "mask": mask, "bias": False, "axis": "heads"}
            own = f"conv_{name}"
            y, after[own] = short_conv(self, y, state[own], self.conv_width, name=own, **kind)
            return heads(nn.silu(y))

        q, k, v = (mapped(name, width) for name, width in (("q", keys), ("k", keys), ("v", values)))
        low = linear(self, "w_low", x, self.gate_rank, ("embed", None))
        gate = linear(self, "w_decay", low, keys, (None, "heads"), bias=True)
        log_a = jax.nn.log_sigmoid(gate.astype(jnp.promote_types(x.dtype, jnp.float32))) / self.temperature
        o, after["S"] = linear_attention(
            q, k, v, heads(log_a), state["S"], scale=q.shape[-1] ** -0.5, reset=reset, mask=mask
        )
        o = rms_norm(o, scale(self, "norm", v.shape[-1], None)).reshape(*x.shape[:2], values)
        o = o * nn.silu(linear(self, "w_g", x, values, ("embed", "heads")))
        return linear(self, "w_o", o, self.width, ("heads", "embed")), after

    def _widths(self) -> tuple[int, int]:
        """Of all keys, of all values."""
        keys = self.width // 2 if self.key_width is None else self.key_width
        values = self.width if self.value_width is None else self.value_width
        check_positive(heads=self.heads, key_width=keys, value_width=values, gate_rank=self.gate_rank)
        for name, width in (("key_width", keys), ("value_width", values)):
            if width % self.heads:
                raise ValueError(f"heads = {self.heads} must divide {name} = {width}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.conv_width < 0:
            raise ValueError(f"conv_width must not be negative, got {self.conv_width}")
        return keys, values
