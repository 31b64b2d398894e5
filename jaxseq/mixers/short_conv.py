"""The gated short convolution of LFM2 (arXiv 2511.23404, section 2): no recurrence, the last tokens alone.

    b, c, x = W_b u, W_c u, W_x u                                    u (D) is the layer's input
    y = W_o (c · conv(b · x))

with a causal depthwise convolution of W taps. A model of such layers sees as far back as they are deep; LFM2 puts an
attention layer after every two of them or so.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear, short_conv
from jaxseq.ops.checks import check_positive


class ShortConv(Mixer):
    """A convolution between two gates.

    Attributes:
      conv_width: W, taps of the convolution.

    Parameters: D (4 D + W).

    State: {"conv": (B, W - 1, D)} float32, the last inputs of the convolution.
    """

    conv_width: int = 3

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        check_positive(conv_width=self.conv_width)
        return {"conv": jnp.zeros((batch, self.conv_width - 1, self.width), jnp.float32)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        b, c, u = (linear(self, name, x, self.width, ("embed", "inner")) for name in ("w_b", "w_c", "w_x"))
        u, conv = short_conv(self, b * u, state["conv"], self.conv_width, reset=reset, mask=mask, bias=False)
        return linear(self, "w_o", c * u, self.width, ("inner", "embed")), {"conv": conv}
