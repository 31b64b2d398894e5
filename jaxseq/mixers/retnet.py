"""Retention: linear attention with constant decays (Sun et al. 2023, "Retentive Network", arXiv 2307.08621, section 2).

    q_t, k_t, v_t = R_t (W_q x_t), R_t (W_k x_t) / √K, W_v x_t
    S_t = γ_h S_{t-1} + k_t v_tᵀ,   o_t = S_tᵀ q_t                  for head h of H, γ_h = 1 - 2^(-5-h), h = 0, 1, ...
    y_t = W_o (norm(o_t) SiLU(W_g x_t))

R_t turns the pair (i, i + K/2) of a head by the angle t · base^(-2i/K); the norm is an RMSNorm over a head with one
gain for all of them, as in flash-linear-attention, where the paper has a GroupNorm.

"lightning" is the linear attention of MiniMax-01 (arXiv 2501.08313, section 2.2): q, k, v = SiLU(W x), no R_t, no 1/√K,
an RMSNorm over all heads, σ in place of the gate's SiLU, and decays that depend on the layer l of L,

    log γ_h = -2^(-8(h+1)/H) (1 - l / (L - 1 + 1e-5) + 1e-5)

where the layers counted are all of the model, of whatever kind.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.mixers.base import Depth, Mixer, linear, scale
from jaxseq.ops import rms_norm
from jaxseq.ops.checks import check_choice, check_positive
from jaxseq.ops.positions import place, rotate
from jaxseq.ops.sharded import linear_attention

FORMS = ("retnet", "lightning")


class RetNet(Mixer):
    """Multi-scale retention, or lightning attention.

    Attributes:
      heads: H.
      form: "retnet" or "lightning".
      key_width: of all heads' keys, H K (default: width).
      value_width: of all heads' values, H V (default: 2 width for "retnet", width for "lightning").
      rope_base: longest wavelength of R_t, in units of 2π tokens.

    Parameters: 2 D (HK) + 3 D (HV), and V ("retnet") or HV ("lightning").
    State: {"S": (B, H, K, V) float32}, and for "retnet" "length": (B,) int32, tokens of the document so far.
    """

    uses_depth = True

    heads: int = 4
    form: str = "retnet"
    key_width: int | None = None
    value_width: int | None = None
    rope_base: float = 10000.0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        keys, values = self.sizes()
        state = {"S": jnp.zeros((batch, self.heads, keys // self.heads, values // self.heads), jnp.float32)}
        return state | ({"length": jnp.zeros((batch,), jnp.int32)} if self.form == "retnet" else {})

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        keys, values = self.sizes()
        q, k, v = (self._heads(x, name, width) for name, width in (("w_q", keys), ("w_k", keys), ("w_v", values)))
        after = {}
        if self.form == "retnet":
            _, position = place(state["length"], reset, mask, x.shape[1])
            q, k = (rotate(a, position, self.rope_base) for a in (q, k * q.shape[-1] ** -0.5))
            after["length"] = position[:, -1] + 1
        log_a = self._log_decay(depth).astype(jnp.promote_types(x.dtype, jnp.float32))[None, None]
        o, after["S"] = linear_attention(q, k, v, log_a, state["S"], reset=reset, mask=mask)
        o = self._normed(o) * self._gate(linear(self, "w_g", x, values, ("embed", "heads")))
        y = linear(self, "w_o", o, self.width, ("heads", "embed"))
        return (y, after) if depth is None else (y, after, None)

    def _log_decay(self, depth: Depth | None) -> jax.Array:
        """log γ (H,)."""
        head = np.arange(self.heads)
        if self.form == "retnet":
            return jnp.asarray(np.log1p(-(2.0 ** (-5 - head))))
        index, layers = _place(depth)
        left = (layers - 1 - index + 1e-5) / (layers - 1 + 1e-5)  # 1 - l / (L - 1 + 1e-5) without its cancellation
        return -jnp.asarray(2.0 ** (-8 * (head + 1) / self.heads)) * (left + 1e-5)

    def _heads(self, x: jax.Array, name: str, width: int) -> jax.Array:
        y = linear(self, name, x, width, ("embed", "heads"))
        return (nn.silu(y) if self.form == "lightning" else y).reshape(*x.shape[:2], self.heads, -1)

    def _normed(self, o: jax.Array) -> jax.Array:
        """(B, T, HV) of (B, T, H, V)."""
        flat = (*o.shape[:2], -1)
        if self.form == "lightning":
            return rms_norm(o.reshape(flat), scale(self, "norm", o.shape[2] * o.shape[3], "heads"))
        return rms_norm(o, scale(self, "norm", o.shape[3], None)).reshape(flat)

    def _gate(self, x: jax.Array) -> jax.Array:
        return nn.silu(x) if self.form == "retnet" else jax.nn.sigmoid(x)

    def sizes(self) -> tuple[int, int]:
        """Widths of all keys and of all values."""
        check_choice("form", self.form, FORMS)
        keys = self.width if self.key_width is None else self.key_width
        values = self.width * (2 if self.form == "retnet" else 1) if self.value_width is None else self.value_width
        check_positive(heads=self.heads, key_width=keys, value_width=values)
        for name, width in (("key_width", keys), ("value_width", values)):
            if width % self.heads:
                raise ValueError(f"heads = {self.heads} must divide {name} = {width}")
        if self.form == "retnet" and keys // self.heads % 2:
            raise ValueError(f"key_width / heads must be even, to be turned in pairs, got {keys} / {self.heads}")
        if not self.rope_base > 1:
            raise ValueError(f"rope_base must be above 1, got {self.rope_base}")
        return keys, values


def _place(depth: Depth | None) -> tuple[jax.Array, int]:
    """l and L."""
    if depth is None:
        return jnp.int32(0), 1
    return (depth.index, depth.layers) if depth.place is None else (depth.place, depth.total)
