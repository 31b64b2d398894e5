"""S4D: a diagonal state space model for every channel (Gu, Gupta, Goel and Ré 2022, arXiv 2206.11893).

    h'(t) = A h(t) + x(t),   y(t) = 2 Re(C h(t)) + D x(t)

for each of D channels, N states in N/2 conjugate pairs, of which one is kept, A diagonal and B = 1 (section 3). With
x held over steps of length Δ ("ZOH"):

    h_t = e^{AΔ} h_{t-1} + x_t,   y_t = 2 Re(Σ_n C_n (e^{A_nΔ} - 1) / A_n h_tn) + D x_t

    out_t = (W_1 u_t + b_1) σ(W_2 u_t + b_2),   u_t = GELU(y_t)

A is -exp(log(-Re A)) + i Im A, so that no state grows. At first (section 4), for n = 0, 1, ...: A_n = -1/2 + iπn
("lin"), -1/2 + i (N/π) (N/(2n+1) - 1) ("inv"), or -(n+1) ("real").
"""

from __future__ import annotations

from math import log, pi

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.mixers.base import Mixer, linear
from jaxseq.ops.checks import check_choice, check_positive
from jaxseq.ops.sharded import linear_scan_project
from jaxseq.sharding import param

INITIAL = ("lin", "inv", "real")


class S4D(Mixer):
    """The S4D layer. Weight decay leaves A, C and Δ alone.

    Attributes:
      states: N, even, per channel.
      init_a: "lin", "inv" or "real", the first A.
      dt_min, dt_max: log Δ is uniform between their logarithms at first, one per channel.
      chunk: steps whose states exist at a time.

    Parameters: 2 D N + 2 D + 2 (D² + D).
    State: {"h": (B, D, N / 2) complex64}.
    """

    states: int = 64
    init_a: str = "lin"
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    chunk: int = 64

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        return {"h": jnp.zeros((batch, self.width, self._pairs()), jnp.complex64)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def coefficients(x: jax.Array, a: jax.Array, _) -> tuple[jax.Array, jax.Array]:
            return a[None, None], jnp.broadcast_to(x[..., None], (*x.shape, a.shape[1])).astype(a.dtype)

        def readout(h: jax.Array, x: jax.Array, _, c: jax.Array) -> jax.Array:
            return 2 * jnp.sum(h.real * c.real - h.imag * c.imag, axis=-1)

        options = {"params": self._system(self._pairs()), "reset": reset, "mask": mask, "chunk": self.chunk}
        y, h = linear_scan_project(coefficients, readout, x.astype(wide), state["h"], **options)
        skip = self.param("d", param(nn.initializers.normal(1.0), "embed"), (self.width,))
        u = nn.gelu((y + skip * x).astype(x.dtype))
        value, gate = (
            linear(self, f"w_{name}", u, self.width, ("embed", "inner"), bias=True) for name in ("value", "gate")
        )
        return value * jax.nn.sigmoid(gate), {"h": h}

    def _system(self, n: int) -> tuple[jax.Array, jax.Array]:
        """e^{AΔ} and C (e^{AΔ} - 1) / A, both (D, N/2) complex."""
        shape = (self.width, n)
        re, im = (jnp.asarray(x, jnp.float32) for x in first_a(self.init_a, 2 * n))
        log_re, im = (
            self.param(name, param(lambda _, s, x=x: jnp.broadcast_to(x, s), "embed", None, decay=False), shape)
            for name, x in (("log_a_re", jnp.log(-re)), ("a_im", im))
        )
        init = nn.initializers.normal(0.5**0.5)
        c = self.param("c", param(init, None, "embed", None, decay=False), (2, *shape))
        step = jnp.exp(self.param("log_step", param(self._init_step, "embed"), (self.width,)))[:, None]
        a = jax.lax.complex(-jnp.exp(log_re), im)
        grown = jnp.expm1(a * step)
        return 1 + grown, jax.lax.complex(*c) * grown / a

    def _pairs(self) -> int:
        check_positive(states=self.states, chunk=self.chunk)
        check_choice("init_a", self.init_a, INITIAL)
        if self.states % 2:
            raise ValueError(f"states must be even, got {self.states}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"steps must satisfy 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")
        return self.states // 2

    def _init_step(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, minval=log(self.dt_min), maxval=log(self.dt_max))


def first_a(kind: str, states: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of the first A of a channel, (N/2,) each."""
    n = np.arange(states // 2)
    if kind == "real":
        return -(n + 1.0), 0.0 * n
    return np.full(len(n), -0.5), pi * n if kind == "lin" else states / pi * (states / (2 * n + 1) - 1)
