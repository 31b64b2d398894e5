"""HGRN2: HGRN with its state expanded by an outer product (Qin et al. 2024, arXiv 2404.07904, section 3).

    f_t = γ + (1 - γ) σ(W_f x_t),   k_t = 1 - f_t,   q_t = SiLU(W_q x_t),   v_t = W_i x_t
    S_t = diag(f_t) S_{t-1} + k_t v_tᵀ,   o_t = S_tᵀ q_t
    y_t = W_o RMSNorm(o_t)

with D = H K gates, keys and values in H heads of K, and one norm over all heads. γ of the layers are as in HGRN: P's
running sum over depth less P's first row, P the softmax over depth of a learned table.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, scale
from jaxseq.ops import rms_norm
from jaxseq.ops.bounded_gate import bounds_by_depth, log_bounded_gate
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import linear_attention


class HGRN2(Mixer):
    """The token mixer of HGRN2; its table of lower bounds is declared by the model.

    Attributes:
      head_dim: K, by which the state is expanded, a divisor of width (default: 128, or width if that is less).

    Parameters: 4 D² + D, and D in the model's table.
    State: {"S": (B, H, K, K) float32}.
    """

    uses_depth = True

    head_dim: int | None = None

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        heads, size = self._sizes()
        return {"S": jnp.zeros((batch, heads, size, size), jnp.float32)}

    def table_width(self) -> int:
        """D."""
        return self.width

    def rows(self, table: jax.Array) -> jax.Array:
        """The lower bounds γ (layers, D) of all layers."""
        return bounds_by_depth(table)

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        heads = (*x.shape[:2], *self._sizes())
        bound = 0.0 if depth is None or depth.row is None else depth.row
        f, q, v = (linear(self, f"w_{name}", x, self.width, ("embed", "heads")) for name in "fqi")
        log_f, k = log_bounded_gate(f.astype(jnp.promote_types(x.dtype, jnp.float32)), bound)
        q, k, v, log_f = (a.reshape(heads) for a in (nn.silu(q), k, v, log_f))
        o, S = linear_attention(q, k, v, log_f, state["S"], reset=reset, mask=mask)
        o = rms_norm(o.reshape(x.shape), scale(self, "norm", self.width, "heads"))
        y, after = linear(self, "w_o", o, self.width, ("heads", "embed")), {"S": S}
        return (y, after) if depth is None else (y, after, None)

    def _sizes(self) -> tuple[int, int]:
        """H and K."""
        size = min(128, self.width) if self.head_dim is None else self.head_dim
        check_positive(head_dim=size)
        if self.width % size:
            raise ValueError(f"head_dim = {size} must divide width = {self.width}")
        return self.width // size, size
