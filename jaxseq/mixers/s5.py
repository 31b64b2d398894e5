"""S5: one diagonal state space model for all channels (Smith, Warrington and Linderman 2023, arXiv 2208.04933).

    h'(t) = Λ h(t) + B x(t),   y(t) = 2 Re(C h(t)) + D x(t)

with P states, of which one of each conjugate pair is kept (section 3). Over a step of length Δ_t, with x held ("zoh")
or by the trapezoid rule ("bilinear"):

    a_t = e^{ΛΔ_t},                          g_t = (e^{ΛΔ_t} - 1) / Λ
    a_t = (1 + ΛΔ_t/2) / (1 - ΛΔ_t/2),       g_t = Δ_t / (1 - ΛΔ_t/2)
    h_t = a_t h_{t-1} + g_t B x_t

and the outputs go through GELU and a gate, as in the authors' code: "full_glu" (W_1 u) σ(W_2 u) with u = GELU(y),
"half_glu1" u σ(W_2 u), "half_glu2" y σ(W_2 u), or "gelu" u; W_1 and W_2 have biases. Δ_t is exp(log Δ), one per state,
times the `dt` of a call, which is 1 where samples come at regular times.

Λ and the basis of B and C are at first those of the normal part of HiPPO-LegS, in J blocks of P/J states (appendix
B.1): A_nk = -√(2n+1)√(2k+1) below the diagonal and -(n+1) on it, plus p pᵀ with p_n = √(n+1/2), is -1/2 and a
skew-symmetric matrix.
"""

from __future__ import annotations

from math import log

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.mixers.base import Mixer, linear
from jaxseq.ops import matmul
from jaxseq.ops.checks import check_choice, check_positive, check_real, check_shapes
from jaxseq.ops.sharded import linear_scan
from jaxseq.sharding import param

METHODS = ("zoh", "bilinear")
ACTIVATIONS = ("full_glu", "half_glu1", "half_glu2", "gelu")


class S5(Mixer):
    """The S5 layer. Weight decay leaves Λ, B, C and Δ alone.

    Attributes:
      states: P, even (default: width).
      blocks: J, of the first Λ; P / J is even.
      discretization: "zoh" or "bilinear".
      activation: "full_glu", "half_glu1", "half_glu2" or "gelu".
      dt_min, dt_max: log Δ is uniform between their logarithms at first.
      clip_eigs: keeps the real part of Λ at -1e-4 or below.

    Parameters: 2 P D + 3 P / 2 + D, and 2 (D² + D), D² + D or 0 for the gate.
    State: {"h": (B, P / 2) complex64}.
    """

    states: int | None = None
    blocks: int = 1
    discretization: str = "zoh"
    activation: str = "full_glu"
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    clip_eigs: bool = False

    def init_state(self, batch: int) -> dict[str, jax.Array]:
        """Zeros."""
        return {"h": jnp.zeros((batch, self._pairs()), jnp.complex64)}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, dt=None):
        """See Mixer. dt (B, T) is the time since the token before, in units of Δ; all 1 if None."""
        state = self.init_state(x.shape[0]) if state is None else state
        check_real(dt=dt)
        check_shapes(x=(x, "B T D"), dt=(dt, "B T"))
        n, wide = self._pairs(), jnp.promote_types(x.dtype, jnp.float32)
        a, gain = self._discretized(n, None if dt is None else dt.astype(wide))
        w_in = self.param("b", param(self._init_b, None, "embed", "inner", decay=False), (2, self.width, n))
        driven = jax.lax.complex(*(matmul(x, w, wide) for w in w_in))
        h = linear_scan(a, _times(gain, driven), state["h"], reset=reset, mask=mask)
        w_out = self.param("c", param(self._init_c, None, "inner", "embed", decay=False), (2, n, self.width))
        y = 2 * (matmul(h.real, w_out[0]) - matmul(h.imag, w_out[1]))
        skip = self.param("d", param(nn.initializers.normal(1.0), "embed"), (self.width,))
        return self._activated((y + skip * x).astype(x.dtype)), {"h": h[:, -1]}

    def _discretized(self, n: int, dt: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """a_t and g_t (B, T, P/2), or (1, 1, P/2) where time is regular."""
        real = self.param("lambda_re", param(nn.initializers.constant(-0.5), "inner"), (n,))
        imag = self.param("lambda_im", param(lambda *_: jnp.tile(self._hippo()[0], self.blocks), "inner"), (n,))
        real = jnp.minimum(real, -1e-4) if self.clip_eigs else real
        step = jnp.exp(self.param("log_step", param(self._init_step, "inner"), (n,)))
        step = step[None, None] if dt is None else step * dt[..., None]
        return discretize(jax.lax.complex(real, imag), step, self.discretization)

    def _activated(self, y: jax.Array) -> jax.Array:
        u = nn.gelu(y)
        if self.activation == "gelu":
            return u
        gate = jax.nn.sigmoid(linear(self, "w_gate", u, self.width, ("embed", "inner"), bias=True))
        if self.activation == "full_glu":
            return linear(self, "w_value", u, self.width, ("embed", "inner"), bias=True) * gate
        return (y if self.activation == "half_glu2" else u) * gate

    def _pairs(self) -> int:
        states = self.width if self.states is None else self.states
        check_positive(states=states, blocks=self.blocks)
        if states % (2 * self.blocks):
            raise ValueError(f"states = {states} must be a multiple of 2 * blocks = {2 * self.blocks}")
        check_choice("discretization", self.discretization, METHODS)
        check_choice("activation", self.activation, ACTIVATIONS)
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"steps must satisfy 0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}")
        return states // 2

    def _hippo(self) -> tuple[np.ndarray, np.ndarray]:
        return hippo_normal(2 * self._pairs() // self.blocks)

    def _init_b(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """V⁻¹ B with B (P, D) from N(0, 1/P), truncated as LeCun's."""
        basis = self._hippo()[1]
        b = nn.initializers.lecun_normal()(key, (2 * shape[2], shape[1])).reshape(self.blocks, len(basis), shape[1])
        b = jnp.einsum("nm,jnd->djm", basis.conj(), b).reshape(shape[1:])
        return jnp.stack([b.real, b.imag])

    def _init_c(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """C V with the real and imaginary parts of C (D, P) from N(0, 1/P), truncated as LeCun's."""
        basis = self._hippo()[1]
        real, imag = nn.initializers.lecun_normal(batch_axis=0)(key, (2, 2 * shape[1], shape[2]))
        c = (real + 1j * imag).reshape(self.blocks, len(basis), shape[2])
        c = jnp.einsum("jnd,nm->jmd", c, basis).reshape(shape[1:])
        return jnp.stack([c.real, c.imag])

    def _init_step(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, minval=log(self.dt_min), maxval=log(self.dt_max))


def discretize(eigenvalues: jax.Array, step: jax.Array, method: str) -> tuple[jax.Array, jax.Array]:
    """a and g of the module's equations, complex, from Λ (P/2,) and Δ (..., P/2) by "zoh" or "bilinear"."""
    z = eigenvalues * step
    if method == "bilinear":
        return (1 + z / 2) / (1 - z / 2), step / (1 - z / 2)
    still = z == 0  # of the quotient, which tends to 1
    grown = jnp.expm1(z)
    return 1 + grown, step * jnp.where(still, 1, grown / jnp.where(still, 1, z))


def _times(g: jax.Array, x: jax.Array) -> jax.Array:
    """g x, complex, so that the gradient of g is a sum of reals over time: see `ops.sharded.reals`."""
    return jax.lax.complex(g.real * x.real - g.imag * x.imag, g.real * x.imag + g.imag * x.real)


def hippo_normal(n: int) -> tuple[np.ndarray, np.ndarray]:
    """ω (n/2,) and V (n, n/2): eigenvalues -1/2 + iω with ω < 0 of HiPPO-LegS's normal part, and eigenvectors."""
    root = np.sqrt(2 * np.arange(n) + 1)
    skew = (np.triu(np.outer(root, root), 1) - np.tril(np.outer(root, root), -1)) / 2
    omega, basis = np.linalg.eigh(-1j * skew)
    return omega[: n // 2], basis[:, : n // 2]
