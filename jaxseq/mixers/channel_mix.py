"""RWKV's channel mixing: an MLP that sees the token before, used as a layer of its own.

    y_t = σ(W_r r_t) (W_v max(W_k k_t, 0)²)                         versions 4 and 6
    y_t = W_v max(W_k k_t, 0)²                                      version 7

With x̄_t the token before x_t, z_t of z = r, k is μ_z x_t + (1 - μ_z) x̄_t in version 4 (Peng et al. 2023, arXiv
2305.13048, section 3.1), and x_t + μ_z (x̄_t - x_t) in versions 6 (arXiv 2404.05892, section 4.2) and 7 (arXiv
2503.14456, section 4.2). The weight of x_t is (i/D)^q at first for channel i of D, q = 1 - l/L for layer l of L, or
with q⁴ in version 7. W_k and W_r are orthogonal at first, and W_v is nothing.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Depth, Mixer, as_state, linear
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import token_shift
from jaxseq.sharding import param

VERSIONS = (4, 6, 7)


class ChannelMix(Mixer):
    """RWKV's channel mixing, for a pattern like ("rwkv7", "channel_mix") in a model without MLPs.

    Attributes:
      version: 4, 6 or 7.
      hidden: F, rows of W_v (default: 4 width; of version 6 the multiple of 32 at or below 3.5 width).
      out_gain: W_v is orthogonal times this at first.

    Parameters: 2 D F + D, and D² + D for versions 4 and 6.
    State: {"shift": (B, 1, D) float32}.
    """

    uses_depth = True
    starts_by_depth = True

    version: int = 7
    hidden: int | None = None
    out_gain: float = 0.0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        return {"shift": jnp.zeros((batch, 1, self.width), jnp.float32)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        place = Depth(jnp.zeros((), jnp.int32), 1) if depth is None else depth
        before, shift = token_shift(x, state["shift"], reset=reset, mask=mask)
        k = self._mapped("k", x, before, place, self.sizes(), ("embed", "mlp"))
        init = nn.initializers.orthogonal(self.out_gain)
        y = linear(self, "w_v", jnp.square(nn.relu(k)), self.width, ("mlp", "embed"), init=init)
        if self.version < 7:
            y = jax.nn.sigmoid(self._mapped("r", x, before, place, self.width, ("embed", "inner"))) * y
        after = {"shift": as_state(shift)}
        return (y, after) if depth is None else (y, after, None)

    def _mapped(
        self, name: str, x: jax.Array, before: jax.Array, place: Depth, features: int, axes: tuple[str, str]
    ) -> jax.Array:
        """W z_t."""
        mu = self.param(f"mu_{name}", param(lambda _, s: self._init_mu(place), "embed"), (self.width,))
        z = mu * x + (1 - mu) * before if self.version == 4 else x + mu * (before - x)
        return linear(self, f"w_{name}", z.astype(x.dtype), features, axes, init=nn.initializers.orthogonal())

    def _init_mu(self, place: Depth) -> jax.Array:
        power = 1 - place.index / place.layers
        own = (jnp.arange(self.width) / self.width) ** (power**4 if self.version == 7 else power)
        return own if self.version == 4 else 1 - own

    def sizes(self) -> int:
        """F."""
        if self.version not in VERSIONS:
            raise ValueError(f"version must be one of {', '.join(map(str, VERSIONS))}, got {self.version}")
        usual = 7 * self.width // 64 * 32 if self.version == 6 else 4 * self.width
        hidden = usual if self.hidden is None else self.hidden
        check_positive(hidden=hidden)
        return hidden
