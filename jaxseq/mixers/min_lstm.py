"""minLSTM (Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201, section 3.2 and appendix B).

    f_t = σ(W_f x_t + b_f),   i_t = σ(W_i x_t + b_i),   c_t = W_h x_t + b_h
    h_t = f_t / (f_t + i_t) h_{t-1} + i_t / (f_t + i_t) g(c_t),   y_t = W_o h_t + b_o

with E channels. The shares are σ(-δ) and σ(δ) for δ = log i_t - log f_t, which holds where both gates underflow. g is
the identity in the paper's plain form, which starts at h_0 = 0. In its log-space form, which it trains, g(c) = c + 1/2
where c >= 0 and σ(c) elsewhere is positive, and h_0 = g(0) = 1/2. The paper needs g for scanning logarithms; here the
scan is of h_t - 1/2, a mean of numbers like any other, which in float32 is as accurate.

The authors' blocks have a convolution before the norm, x_t + conv(x)_t; here it is behind the norm, part of the mixer.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, short_conv
from jaxseq.ops.checks import check_choice, check_positive
from jaxseq.ops.sharded import linear_scan
from jaxseq.sharding import param

FORMS = ("log", "plain")


class MinLSTM(Mixer):
    """A minLSTM between a convolution and a projection.

    Attributes:
      inner: E (default: width).
      form: "log" (g of the log-space form) or "plain".
      conv_width: W, taps of the convolution; 0 for none.
      forget_bias: of b_f at first; above 0 the state lasts longer.

    Parameters: 4 D E + 3 E + D, and (W + 1) D for the convolution.
    State: {"h": (B, E) float32, h_t less h_0; and with a convolution "conv": (B, W - 1, D) float32}.
    """

    inner: int | None = None
    form: str = "log"
    conv_width: int = 4
    forget_bias: float = 0.0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        h = {"h": jnp.zeros((batch, self._inner()), jnp.float32)}
        return h | ({"conv": jnp.zeros((batch, self.conv_width - 1, self.width))} if self.conv_width else {})

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        before = self.init_state(x.shape[0]) if state is None else state
        inner, after = self._inner(), {}
        if self.conv_width:
            mixed, after["conv"] = short_conv(
                self, x, before["conv"], self.conv_width, reset=reset, mask=mask, axis="embed"
            )
            x = x + mixed
        wide = jnp.promote_types(x.dtype, jnp.float32)
        i, c = (linear(self, f"w_{name}", x, inner, ("embed", "inner"), bias=True).astype(wide) for name in "ih")
        bias = self.param("b_f", param(nn.initializers.constant(self.forget_bias), "inner"), (inner,))
        f = linear(self, "w_f", x, inner, ("embed", "inner")).astype(wide) + bias
        delta = jax.nn.log_sigmoid(i) - jax.nn.log_sigmoid(f)
        c = c if self.form == "plain" else jnp.where(c >= 0, c, jnp.tanh(c / 2) / 2)  # g(c) - 1/2
        h = linear_scan(jax.nn.sigmoid(-delta), jax.nn.sigmoid(delta) * c, before["h"], reset=reset, mask=mask)
        after["h"] = h[:, -1]
        h = h if self.form == "plain" else h + 0.5
        return linear(self, "w_o", h.astype(x.dtype), self.width, ("inner", "embed"), bias=True), after

    def _inner(self) -> int:
        check_choice("form", self.form, FORMS)
        if self.conv_width < 0:
            raise ValueError(f"conv_width must not be negative, got {self.conv_width}")
        inner = self.width if self.inner is None else self.inner
        check_positive(inner=inner)
        return inner
