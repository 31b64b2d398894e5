"""RWKV-4: its time mixing (Peng et al. 2023, arXiv 2305.13048, section 3.1).

With x̄_t the token before x_t and z_t = μ_z x_t + (1 - μ_z) x̄_t for z of r, k, v, all per channel:

    r_t, k_t, v_t = W_r r_t, W_k k_t, W_v v_t
    wkv_t = (Σ_{j<t} e^{-(t-1-j)w + k_j} v_j + e^{u + k_t} v_t) / (Σ_{j<t} e^{-(t-1-j)w + k_j} + e^{u + k_t})
    y_t = W_o (σ(r_t) wkv_t)

with w = e^{log w}. For channel e of E and layer l of L, ρ = l / (L - 1) and q = 1 - l / L, at first:

    log w = -5 + 8 (e / (E-1))^(0.7 + 1.3ρ),   u = log 0.3 + ((e + 1) mod 3 - 1) / 2
    μ_k = (i/D)^q,   μ_v = (i/D)^q + 0.3ρ,   μ_r = (i/D)^(q/2),   i < D

W_r, W_k and W_v are orthogonal at first and W_o is nothing, as in the authors' code for later versions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Depth, Mixer, as_state, linear
from jaxseq.ops.checks import check_positive
from jaxseq.ops.sharded import softmax_scan, token_shift
from jaxseq.sharding import param


class RWKV4(Mixer):
    """RWKV-4's time mixing.

    Attributes:
      inner: E (default: width).
      out_gain: W_o is orthogonal times this at first.

    Parameters: 4 D E + 2 E + 3 D.
    State: {"shift": (B, 1, D), "m", "u", "w": (B, E)} float32; e^m u and e^m w are the sums of wkv's denominator and
    numerator over the past.
    """

    uses_depth = True
    starts_by_depth = True

    inner: int | None = None
    out_gain: float = 0.0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Nothing: sums of zero, and no largest exponent."""
        sums = jnp.zeros((batch, self.sizes()), jnp.float32)
        shift = jnp.zeros((batch, 1, self.width), jnp.float32)
        return {"shift": shift, "m": jnp.full_like(sums, -1e30), "u": sums, "w": sums}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        place = Depth(jnp.zeros((), jnp.int32), 1) if depth is None else depth
        before, shift = token_shift(x, state["shift"], reset=reset, mask=mask)
        r, k, v = (self._mapped(name, x, before, place) for name in "rkv")
        decay = jnp.exp(self.param("decay_log", param(lambda _, s: _decay(place, s[0]), "inner"), r.shape[-1:]))
        bonus = self.param("bonus", param(lambda _, s: _bonus(s[0]), "inner"), r.shape[-1:])
        past = state["m"], state["u"], state["w"][..., None]
        wide = k.astype(jnp.promote_types(k.dtype, jnp.float32))
        wkv, (m, u, w) = softmax_scan(wide, v[..., None], past, decay=decay, bonus=bonus, reset=reset, mask=mask)
        init = nn.initializers.orthogonal(self.out_gain)
        y = linear(self, "w_o", jax.nn.sigmoid(r) * wkv[..., 0], self.width, ("inner", "embed"), init=init)
        after = {"shift": as_state(shift), "m": m, "u": u, "w": w[..., 0]}
        return (y, after) if depth is None else (y, after, None)

    def _mapped(self, name: str, x: jax.Array, before: jax.Array, place: Depth) -> jax.Array:
        """W (μ x_t + (1 - μ) x̄_t)."""
        mu = self.param(
            f"mu_{name}", param(lambda _, s: _MU[name](jnp.arange(s[0]) / s[0], place), "embed"), (self.width,)
        )
        z = (mu * x + (1 - mu) * before).astype(x.dtype)
        return linear(self, f"w_{name}", z, self.sizes(), ("embed", "inner"), init=nn.initializers.orthogonal())

    def sizes(self) -> int:
        """E."""
        inner = self.width if self.inner is None else self.inner
        check_positive(inner=inner)
        return inner


_MU: dict[str, Callable[[jax.Array, Depth], jax.Array]] = {
    "k": lambda i, place: i ** (1 - place.index / place.layers),
    "v": lambda i, place: i ** (1 - place.index / place.layers) + 0.3 * place.fraction,
    "r": lambda i, place: i ** (0.5 * (1 - place.index / place.layers)),
}


def _decay(place: Depth, channels: int) -> jax.Array:
    """log w (E,) of a layer at first."""
    return -5 + 8 * jnp.linspace(0, 1, channels) ** (0.7 + 1.3 * place.fraction)


def _bonus(channels: int) -> jax.Array:
    """u (E,) at first."""
    return log(0.3) + ((jnp.arange(channels) + 1) % 3 - 1) / 2
