"""HGRN: a gated linear recurrence whose forget gates are bounded below by depth (Qin et al. 2023, arXiv 2311.04823).

    f_t = γ + (1 - γ) σ(W_f x_t)
    h_t = f_t e^{iθ} h_{t-1} + (1 - f_t) c_t,    c_t = SiLU(W_re x_t) + i SiLU(W_im x_t)
    y_t = W_o (norm([Re h_t, Im h_t]) SiLU(W_g x_t))

with E complex channels (section 3.2; its λ is our f, its μ the sigmoid). γ of the layers are P's running sum over depth
less P's first row, P the softmax over depth of a learned table: 0 in the first layer, below 1 in the last. "complex" is
the authors' module, with biases throughout, LayerNorm, and θ_e = 10000^(-2e/E) at first. "real" is that of
flash-linear-attention: h is real, without e^{iθ}, c_t = SiLU(W_i x_t), RMSNorm and no biases.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, scale
from jaxseq.ops import layer_norm, rms_norm
from jaxseq.ops.bounded_gate import bounded_gate, bounds_by_depth
from jaxseq.ops.checks import check_choice, check_positive
from jaxseq.ops.sharded import linear_scan
from jaxseq.sharding import param

FORMS = ("complex", "real")


class HGRN(Mixer):
    """The HGRU of HGRN; its table of lower bounds is declared by the model.

    Attributes:
      inner: E (default: width).
      form: "complex" or "real".

    Parameters: 7 D E + 10 E + D (complex) or 4 D E + E (real), and E in the model's table.
    State: {"h": (B, E)} complex64 or float32.
    """

    uses_depth = True

    inner: int | None = None
    form: str = "complex"

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        inner = self._inner()
        return {"h": jnp.zeros((batch, inner), jnp.complex64 if self.form == "complex" else jnp.float32)}

    def table_width(self) -> int:
        """E."""
        return self._inner()

    def rows(self, table: jax.Array) -> jax.Array:
        """The lower bounds γ (layers, E) of all layers."""
        return bounds_by_depth(table)

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        bound = 0.0 if depth is None or depth.row is None else depth.row
        z = self._map("w_f", x).astype(jnp.promote_types(x.dtype, jnp.float32))
        h = linear_scan(*self._driven(x, *bounded_gate(z, bound)), state["h"], reset=reset, mask=mask)
        y = self._normed(h).astype(x.dtype) * nn.silu(self._map("w_g", x, 2 if self.form == "complex" else 1))
        y = linear(self, "w_o", y, self.width, ("inner", "embed"), bias=self.form == "complex")
        after = {"h": h[:, -1]}
        return (y, after) if depth is None else (y, after, None)

    def _driven(self, x: jax.Array, kept: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The decay and the input of the recurrence."""
        if self.form == "real":
            return kept, new * nn.silu(self._map("w_i", x))
        inner = self._inner()
        theta = self.param("theta", param(lambda *_: 10000.0 ** (-2 * jnp.arange(inner) / inner), "inner"), (inner,))
        real, imag = (new * nn.silu(self._map(name, x)) for name in ("w_re", "w_im"))
        return jax.lax.complex(kept * jnp.cos(theta), kept * jnp.sin(theta)), jax.lax.complex(real, imag)

    def _normed(self, h: jax.Array) -> jax.Array:
        if self.form == "real":
            return rms_norm(h, scale(self, "norm", h.shape[-1], "inner"))
        both = jnp.concatenate([h.real, h.imag], axis=-1)
        bias = self.param("norm_b", param(nn.initializers.zeros, "inner"), both.shape[-1:])
        return layer_norm(both, scale(self, "norm", both.shape[-1], "inner"), bias)

    def _map(self, name: str, x: jax.Array, times: int = 1) -> jax.Array:
        return linear(self, name, x, times * self._inner(), ("embed", "inner"), bias=self.form == "complex")

    def _inner(self) -> int:
        check_choice("form", self.form, FORMS)
        inner = self.width if self.inner is None else self.inner
        check_positive(inner=inner)
        return inner
