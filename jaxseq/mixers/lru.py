"""LRU: the linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349, section 3).

    λ = exp(-exp(ν) + i exp(θ)),   h_t = λ h_{t-1} + exp(γ) (B x_t),   y_t = Re(C h_t) + D x_t

with N complex states, |λ| < 1 by construction, and y passed through GELU and a GLU: (W_1 y) σ(W_2 y). γ starts at
log √(1 - |λ|²), which keeps h at the scale of x, and is then learned freely.
"""

from __future__ import annotations

from math import pi

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Mixer, linear
from jaxseq.ops import matmul
from jaxseq.ops.sharded import linear_scan
from jaxseq.sharding import param


class LRU(Mixer):
    """The LRU with `states` complex channels (default: width). |λ|² is uniform in [min_radius², max_radius²] at first,
    the phase uniform in [0, max_phase] radians. Weight decay leaves λ, γ and B alone.

    State: {"h": (B, states) complex64}.
    """

    states: int | None = None
    min_radius: float = 0.9
    max_radius: float = 0.999
    max_phase: float = pi / 10

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        return {"h": jnp.zeros((batch, self._channels()), jnp.complex64)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        n = self._channels()
        log_decay = self.param("nu_log", param(self._init_nu, "inner"), (n,))
        phase = self.param("theta_log", param(self._init_theta, "inner"), (n,))
        a = jnp.exp(-jnp.exp(log_decay) + 1j * jnp.exp(phase))
        gain = self.param("gamma_log", param(lambda *_: 0.5 * jnp.log1p(-jnp.square(jnp.abs(a))), "inner"), (n,))
        b = self._complex_inputs(x, n, jnp.exp(gain))
        a = a[None, None]
        if mask is not None:
            a, b = jnp.where(mask[..., None], a, 1), jnp.where(mask[..., None], b, 0)
        h = linear_scan(a, b, state["h"], reset=reset)
        skip = self.param("d", param(nn.initializers.normal(1.0), "embed"), (self.width,))
        y = nn.gelu((self._real_outputs(h) + skip * x).astype(x.dtype))
        y = linear(self, "w_value", y, self.width, ("embed", "inner")) * jax.nn.sigmoid(
            linear(self, "w_gate", y, self.width, ("embed", "inner"))
        )
        return y, {"h": h[:, -1]}

    def _channels(self) -> int:
        if self.states is not None and self.states < 1:
            raise ValueError(f"states must be at least 1, got {self.states}")
        if not 0 <= self.min_radius < self.max_radius <= 1:
            got = f"{self.min_radius} and {self.max_radius}"
            raise ValueError(f"radii must satisfy 0 <= min_radius < max_radius <= 1, got {got}")
        if not self.max_phase > 0:
            raise ValueError(f"max_phase must be positive, got {self.max_phase}")
        return self.width if self.states is None else self.states

    def _complex_inputs(self, x: jax.Array, n: int, gain: jax.Array) -> jax.Array:
        init = nn.initializers.normal((2 * self.width) ** -0.5)
        w = self.param("w_in", param(init, None, "embed", "inner", decay=False), (2, self.width, n))
        # The gain times real and imaginary parts: a real gain's gradient is then no sum of complex numbers.
        return jax.lax.complex(*(gain * matmul(x, v, jnp.promote_types(x.dtype, jnp.float32)) for v in w))

    def _real_outputs(self, h: jax.Array) -> jax.Array:
        init = nn.initializers.normal(h.shape[-1] ** -0.5)
        w = self.param("w_out", param(init, None, "inner", "embed"), (2, h.shape[-1], self.width))
        return matmul(h.real, w[0]) - matmul(h.imag, w[1])

    def _init_nu(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        low, high = self.min_radius**2, self.max_radius**2
        return jnp.log(-0.5 * jnp.log(jax.random.uniform(key, shape, minval=low, maxval=high)))

    def _init_theta(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.log(self.max_phase * (1 - jax.random.uniform(key, shape)))
