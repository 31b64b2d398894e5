"""LightNet: linear attention whose keys are a softmax over the past (Qin et al. 2024, arXiv 2405.21022, section 3).

    q_t, k_t, v_t = SiLU(W_q x_t), W_k x_t, W_v x_t
    z_t = log Σ_{j≤t} e^{k_j}                                             of every key channel
    S_t = Diag(e^{z_{t-1} - z_t}) S_{t-1} + e^{k_t - z_t} v_tᵀ  =  Σ_{j≤t} e^{k_j - z_t} v_jᵀ
    y_t = W_o (RMSNorm(S_tᵀ q_t / √K) SiLU(W_2 W_1 x_t))

S is each head's own, the norm is over all of them. The exponentials are taken as σ(z_{t-1} - k_t) and σ(k_t - z_{t-1}),
whose sum is 1: S stays a mean of v when there are so many tokens that z no longer feels one of them. The positions that
the paper encodes for several dimensions are left out, as in flash-linear-attention.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, scale
from jaxseq.ops import rms_norm
from jaxseq.ops.algebra import FLOOR
from jaxseq.ops.checks import check_positive, check_shapes
from jaxseq.ops.sharded import linear_attention, prefix_logsumexp
from jaxseq.ops.shift import previous


class LightNet(Mixer):
    """LightNet.

    Attributes:
      head_dim: K, the width of a head's keys and values (default: 128, or width where that is less).
      gate_rank: rows of W_1 (default: 128, or width where that is less).
      norm_eps: of the norm.

    Parameters: 4 width² + 2 width gate_rank + width.
    State: {"z": (B, heads, K), "S": (B, heads, K, K)} float32; z is -1e30 before a document.
    """

    head_dim: int | None = None
    gate_rank: int | None = None
    norm_eps: float = 1e-5

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """No token so far."""
        heads, size = self._heads()
        return {"z": jnp.full((batch, heads, size), FLOOR), "S": jnp.zeros((batch, heads, size, size))}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        check_shapes(x=(x, f"B T {self.width}"))
        state = self.init_state(x.shape[0]) if state is None else state
        wide = jnp.promote_types(x.dtype, jnp.float32)
        q, k, v = (self._heads_of(f"w_{name}", x) for name in ("q", "k", "v"))
        k = k.astype(wide)
        z = prefix_logsumexp(k, state["z"], reset=reset, mask=mask)
        ahead = k - previous(z, state["z"], reset, zero=FLOOR)
        log_a, keys, size = jax.nn.log_sigmoid(-ahead), jax.nn.sigmoid(ahead), q.shape[-1]
        y, S = linear_attention(nn.silu(q), keys, v, log_a, state["S"], scale=size**-0.5, reset=reset, mask=mask)
        y = rms_norm(y.reshape(x.shape), scale(self, "norm", self.width, "heads"), self.norm_eps)
        y = linear(self, "w_o", y * self._gate(x), self.width, ("heads", "embed"))
        return y, {"z": z[:, -1], "S": S}

    def _heads(self) -> tuple[int, int]:
        """(heads, K)."""
        size = min(128, self.width) if self.head_dim is None else self.head_dim
        check_positive(head_dim=size)
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps must be positive, got {self.norm_eps}")
        if self.width % size:
            raise ValueError(f"head_dim = {size} must divide width = {self.width}")
        return self.width // size, size

    def _heads_of(self, name: str, x: jax.Array) -> jax.Array:
        y = linear(self, name, x, self.width, ("embed", "heads"))
        return y.reshape(*x.shape[:2], *self._heads())

    def _gate(self, x: jax.Array) -> jax.Array:
        rank = min(128, self.width) if self.gate_rank is None else self.gate_rank
        check_positive(gate_rank=rank)
        low = linear(self, "w_1", x, rank, ("embed", None))
        return nn.silu(linear(self, "w_2", low, self.width, (None, "heads")))
