"""RWKV-6, "Finch" (Peng et al. 2024, arXiv 2404.05892, section 4.2): its time mixing.

With x̄_t the token before x_t, for every z of w, k, v, r, g

    z_t = x_t + (μ_z + tanh((x_t + μ_x (x̄_t - x_t)) A_z) B_z) (x̄_t - x_t)
    r_t, k_t, v_t, g_t = r W_r, k W_k, v W_v, SiLU(g W_g)
    log w_t = -exp(b + tanh(w A) B)
    y_t = W_o (g_t GroupNorm((S_{t-1} + Diag(u) k_t v_tᵀ)ᵀ r_t))
    S_t = Diag(w_t) S_{t-1} + k_t v_tᵀ

where S and GroupNorm are each head's own. Parameters start as in the authors' training code, in which most depend on
the layer's place in the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Depth, Mixer, as_state, linear
from jaxseq.ops import layer_norm, matmul
from jaxseq.ops.checks import check_positive, check_shapes
from jaxseq.ops.sharded import linear_attention, token_shift
from jaxseq.sharding import param

EPS = 64e-5  # of the group norm
MIXED = ("w", "k", "v", "r", "g")  # in the order in which A_z lie side by side


class RWKV6(Mixer):
    """RWKV-6's time mixing.

    Attributes:
      head_dim: K, the width of a head (default: 64, or width where that is less).
      mix_rank: of each A_z (default: 32, from width 4096 on 64).
      decay_rank: of A (default: 64, from width 4096 on 128).
      out_gain: W_o is orthogonal times this at first: the authors' layer starts as nothing.

    Parameters: 5 width² + (10 mix_rank + 2 decay_rank + 10) width.
    State: {"shift": (B, 1, width), "S": (B, heads, K, K)} float32.
    """

    uses_depth: ClassVar[bool] = True
    starts_by_depth: ClassVar[bool] = True

    head_dim: int | None = None
    mix_rank: int | None = None
    decay_rank: int | None = None
    out_gain: float = 0.0

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        heads, size = self._heads()
        shift = jnp.zeros((batch, 1, self.width), jnp.float32)
        return {"shift": shift, "S": jnp.zeros((batch, heads, size, size), jnp.float32)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        """See Mixer."""
        check_shapes(x=(x, f"B T {self.width}"))
        state = self.init_state(x.shape[0]) if state is None else state
        place = Depth(jnp.zeros((), jnp.int32), 1) if depth is None else depth
        before, shift = token_shift(x, state["shift"], reset=reset, mask=mask)
        z = self._mix(x, before, place)
        gains = {"r": 1.0, "k": 0.1, "v": 1.0, "g": 0.1}
        r, k, v, g = (self._project(f"w_{name}", z[name], gain) for name, gain in gains.items())
        log_w = -jnp.exp(self._log_rate(z["w"], place))
        u = self.param("bonus", param(lambda _: self._init_bonus(place), "heads", None, decay=False))
        q, k, v, log_w = (value.reshape(*x.shape[:2], *self._heads()) for value in (r, k, v, log_w))
        y, S = linear_attention(q, k, v, log_w, state["S"], bonus=u, reset=reset, mask=mask)
        y = self._norm(y.astype(log_w.dtype), place).reshape(x.shape) * nn.silu(g)
        out = self._project("w_o", y.astype(x.dtype), self.out_gain, ("heads", "embed"))
        after = {"shift": as_state(shift), "S": S}
        return (out, after) if depth is None else (out, after, None)

    def _heads(self) -> tuple[int, int]:
        """(heads, K)."""
        given = {name: getattr(self, name) for name in ("head_dim", "mix_rank", "decay_rank")}
        check_positive(**{name: value for name, value in given.items() if value is not None})
        size = min(64, self.width) if self.head_dim is None else self.head_dim
        if self.width % size:
            raise ValueError(f"head_dim = {size} must divide width = {self.width}")
        return self.width // size, size

    def _vector(self, name: str, values: Callable[[], jax.Array], axis: str = "heads") -> jax.Array:
        return self.param(name, param(lambda _: values(), axis))

    def _project(self, name: str, x: jax.Array, gain: float, axes: tuple[str, str] = ("embed", "heads")) -> jax.Array:
        return linear(self, name, x, self.width, axes, init=nn.initializers.orthogonal(gain))

    def _low_rank(self, name: str, *shapes: tuple[int, ...], axis: str) -> tuple[jax.Array, jax.Array]:
        """(A, B): zeros at first and uniform in ±0.01."""
        into, out = shapes
        a = self.param(f"{name}_in", param(nn.initializers.zeros, "embed", None, decay=False), into)
        none = (None,) * (len(out) - 1)
        return a, self.param(f"{name}_out", param(_small, *none, axis, decay=False), out)

    def _mix(self, x: jax.Array, before: jax.Array, place: Depth) -> dict[str, jax.Array]:
        """Every z_t, by name."""
        change, wide = before - x, jnp.promote_types(x.dtype, jnp.float32)
        rank = (64 if self.width >= 4096 else 32) if self.mix_rank is None else self.mix_rank
        into, out = self._low_rank("mix", (self.width, 5 * rank), (5, rank, self.width), axis="embed")
        hidden = jnp.tanh(matmul((x + self._mu("x", place) * change).astype(x.dtype), into, wide))
        parts = jnp.split(hidden, len(MIXED), axis=-1)
        mu = {name: self._mu(name, place) + matmul(part, b) for name, part, b in zip(MIXED, parts, out, strict=True)}
        return {name: (x + mu[name] * change).astype(x.dtype) for name in MIXED}

    def _mu(self, name: str, place: Depth) -> jax.Array:
        def start() -> jax.Array:
            power = (1 - place.index / place.layers) * (0.5 if name in ("r", "g") else 1)
            rise = (jnp.arange(self.width) / self.width) ** power
            return 1 - rise - (0.3 * place.fraction if name == "v" else 0)

        return self._vector(f"mu_{name}", start, "embed")

    def _log_rate(self, z: jax.Array, place: Depth) -> jax.Array:
        """log(-log w), in float32 or wider."""
        rank = (128 if self.width >= 4096 else 64) if self.decay_rank is None else self.decay_rank
        into, out = self._low_rank("decay", (self.width, rank), (rank, self.width), axis="heads")
        moved = matmul(jnp.tanh(matmul(z, into, jnp.promote_types(z.dtype, jnp.float32))), out)
        return moved + self._vector("decay_bias", lambda: 5 * _ramp(self.width) ** (0.7 + 1.3 * place.fraction) - 6)

    def _norm(self, y: jax.Array, place: Depth) -> jax.Array:
        """Each head's layer norm (B, T, H, K)."""
        gain = self._vector("norm", lambda: jnp.full(self.width, ((place.index + 1) / place.layers) ** 0.7))
        bias = self._vector("norm_bias", lambda: jnp.zeros(self.width))
        return layer_norm(y, gain.reshape(y.shape[2:]), bias.reshape(y.shape[2:]), EPS)

    def _init_bonus(self, place: Depth) -> jax.Array:
        zigzag = 0.1 * ((jnp.arange(self.width) + 1) % 3 - 1)
        return (place.fraction * (1 - _ramp(self.width)) + zigzag).reshape(self._heads())


def _small(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-0.01, maxval=0.01)


def _ramp(size: int) -> jax.Array:
    """0 at the first channel, 1 at the last."""
    return jnp.linspace(0, 1, size)
