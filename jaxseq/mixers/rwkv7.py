"""RWKV-7, "Goose" (Peng et al. 2025, arXiv 2503.14456, section 4.1): its time mixing.

With x̄_t the token before x_t, z_t = x_t + μ_z (x̄_t - x_t) for every z of r, w, k, v, η, g, and low-rank maps
lora_z(f) = f(z A_z) B_z + b_z, in which b_g = 0,

    r_t, k_t, v_t = r W_r, k W_k, v W_v
    log w_t = -e^{-1/2} σ(lora_w(tanh))
    η_t, ν_t, g_t = σ(lora_η(id)), σ(lora_v(id)), lora_g(σ)
    v_t ← v_t + ν_t (v_first - v_t)                               v_first: v_t of the first layer, which skips this
    κ_t, k_t ← unit(ξ k_t), k_t (1 + α (η_t - 1))
    S_t = (Diag(w_t) - (κ_t η_t) κ_tᵀ) S_{t-1} + k_t v_tᵀ
    y_t = W_o (g_t (GroupNorm(S_tᵀ r_t) + (Σ ρ r_t k_t) v_t))

where unit, S, GroupNorm and Σ are each head's own. The paper's states are transposed, and its a is our η. Parameters
start as in the authors' training code, in which most depend on the layer's place in the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, sqrt
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Depth, Mixer, as_state, linear
from jaxseq.ops import layer_norm, matmul, unit_norm
from jaxseq.ops.checks import check_positive, check_shapes
from jaxseq.ops.sharded import rwkv7_attention, token_shift
from jaxseq.sharding import param

EPS = 64e-5  # of the group norm
POWERS = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "eta": 0.9, "g": 0.2}  # how μ rises over the channels at first


class RWKV7(Mixer):
    """RWKV-7's time mixing; the first layer gives its v_t to the others.

    Attributes:
      head_dim: K, the width of a head (default: 64, or width where that is less).
      decay_rank, eta_rank, value_rank, gate_rank: of A_w, A_η, A_v and A_g (default: 2.5, 2.5, 1.7 and 5 times √width,
        to the nearest positive multiple of 32).
      out_gain: W_o is orthogonal times this at first: the authors' layer starts as nothing.

    Parameters: 4 width² + 2 width (sum of the four ranks) + 14 width. (The first layer has A_v, B_v and b_v unused.)
    State: {"shift": (B, 1, width), "S": (B, heads, K, K)} float32.
    """

    uses_depth: ClassVar[bool] = True
    starts_by_depth: ClassVar[bool] = True

    head_dim: int | None = None
    decay_rank: int | None = None
    eta_rank: int | None = None
    value_rank: int | None = None
    gate_rank: int | None = None
    out_gain: float = 0.0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        heads, size = self._heads()
        shift = jnp.zeros((batch, 1, self.width), jnp.float32)
        return {"shift": shift, "S": jnp.zeros((batch, heads, size, size), jnp.float32)}

    def first_width(self) -> int:
        """Of v_first."""
        return self.width

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        check_shapes(x=(x, f"B T {self.width}"))
        state = self.init_state(x.shape[0]) if state is None else state
        place = Depth(jnp.zeros((), jnp.int32), 1) if depth is None else depth
        before, shift = token_shift(x, state["shift"], reset=reset, mask=mask)
        z = {name: self._lerp(name, x, before, place) for name in POWERS}
        r, k, v = (self._project(f"w_{name}", z[name], gain) for name, gain in (("r", 1), ("k", 0.1), ("v", 1)))
        first = v if place.first is None else jnp.where(place.index == 0, v, place.first)
        v = (v + self._value_rate(z["v"]) * (first - v)).astype(x.dtype)
        eta = self._eta(z["eta"])
        removed, k = self._keys(k, eta)
        r, log_w, k, v, removed, eta = map(self._split, (r, self._log_decay(z["w"], place), k, v, removed, eta))
        y, S = rwkv7_attention(r, log_w, k, v, unit_norm(removed), eta, state["S"], reset=reset, mask=mask)
        y = self._norm(y.astype(log_w.dtype), place) + self._bonus(r, k) * v
        gated = y.reshape(x.shape) * self._gate(z["g"])
        out = self._project("w_o", gated.astype(x.dtype), self.out_gain, ("heads", "embed"))
        after = {"shift": as_state(shift), "S": S}
        return (out, after) if depth is None else (out, after, first)

    def _heads(self) -> tuple[int, int]:
        """(heads, K)."""
        ranks = {name: getattr(self, f"{name}_rank") for name in ("decay", "eta", "value", "gate")}
        given = {"head_dim": self.head_dim} | {f"{name}_rank": rank for name, rank in ranks.items()}
        check_positive(**{name: value for name, value in given.items() if value is not None})
        size = min(64, self.width) if self.head_dim is None else self.head_dim
        if self.width % size:
            raise ValueError(f"head_dim = {size} must divide width = {self.width}")
        return self.width // size, size

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], *self._heads())

    def _vector(self, name: str, values: Callable[[], jax.Array], axis: str = "heads") -> jax.Array:
        return self.param(name, param(lambda _: values(), axis))

    def _project(self, name: str, x: jax.Array, gain: float, axes: tuple[str, str] = ("embed", "heads")) -> jax.Array:
        return linear(self, name, x, self.width, axes, init=nn.initializers.orthogonal(gain))

    def _lerp(self, name: str, x: jax.Array, before: jax.Array, place: Depth) -> jax.Array:
        """x + μ (x̄ - x)."""
        power = POWERS[name] * (1 - place.index / place.layers)
        mu = self._vector(f"mu_{name}", lambda: 1 - (jnp.arange(self.width) / self.width) ** power, "embed")
        return (x + mu * (before - x)).astype(x.dtype)

    def _lora(self, name: str, z: jax.Array, times: float, f: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """f(z A) B, in float32 or wider."""
        given, wide = getattr(self, f"{name}_rank"), jnp.promote_types(z.dtype, jnp.float32)
        rank = max(32, 32 * round(times * sqrt(self.width) / 32)) if given is None else given
        zeros, gain = nn.initializers.zeros, 0.1 * max(1.0, sqrt(rank / self.width))
        into = self.param(f"{name}_in", param(zeros, "embed", None, decay=False), (self.width, rank))
        init = param(nn.initializers.orthogonal(gain), None, "heads", decay=False)
        return matmul(f(matmul(z, into, wide)), self.param(f"{name}_out", init, (rank, self.width)))

    def _log_decay(self, z: jax.Array, place: Depth) -> jax.Array:
        def start() -> jax.Array:
            rise = _ramp(self.width) ** (1 + place.fraction**0.3)
            return 6 * rise - 5.5 + 2.5 * self._zigzag()

        return -exp(-0.5) * jax.nn.sigmoid(self._lora("decay", z, 2.5, jnp.tanh) + self._vector("decay_bias", start))

    def _eta(self, z: jax.Array) -> jax.Array:
        def start() -> jax.Array:
            return 0.3 * self._zigzag() + 0.4 * (_ramp(self.width) - 0.5) - 0.19

        return jax.nn.sigmoid(self._lora("eta", z, 2.5, lambda h: h) + self._vector("eta_bias", start))

    def _value_rate(self, z: jax.Array) -> jax.Array:
        def start() -> jax.Array:
            return 0.73 - 0.4 * (_ramp(self.width) - 0.5)

        return jax.nn.sigmoid(self._lora("value", z, 1.7, lambda h: h) + self._vector("value_bias", start))

    def _gate(self, z: jax.Array) -> jax.Array:
        return self._lora("gate", z, 5.0, jax.nn.sigmoid)

    def _keys(self, k: jax.Array, eta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is removed, not yet of length 1, and what is written."""
        xi = self._vector("xi", lambda: 0.71 - 0.1 * (_ramp(self.width) - 0.5))
        alpha = self._vector("alpha", lambda: jnp.full(self.width, 1.02))
        return k * xi, k * (1 + alpha * (eta - 1))

    def _norm(self, y: jax.Array, place: Depth) -> jax.Array:
        """Each head's layer norm (B, T, H, K)."""
        gain = self._vector("norm", lambda: jnp.full(self.width, ((place.index + 1) / place.layers) ** 0.7))
        bias = self._vector("norm_bias", lambda: jnp.zeros(self.width))
        return layer_norm(y, gain.reshape(y.shape[2:]), bias.reshape(y.shape[2:]), EPS)

    def _bonus(self, r: jax.Array, k: jax.Array) -> jax.Array:
        """Σ ρ r k (B, T, H, 1)."""
        rho = self.param("rho", param(lambda *_: jnp.full(self._heads(), -0.04), "heads", None, decay=False))
        return jnp.sum(rho * r * k, axis=-1, keepdims=True)

    def _zigzag(self) -> jax.Array:
        """-1 to 1 over the channels of a head, flat around 0."""
        heads, size = self._heads()
        line = jnp.linspace(-1, 1, size)
        return jnp.tile(line * jnp.abs(line), heads)


def _ramp(size: int) -> jax.Array:
    """0 at the first channel, 1 at the last."""
    return jnp.linspace(0, 1, size)
