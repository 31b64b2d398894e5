"""Antisymmetric RNN and its gated form (Chang, Chen, Haber and Chi 2019, arXiv 1902.09689).

    A = R - Rᵀ - γ I
    plain:   h_t = h_{t-1} + ε tanh(u_h + h_{t-1} A)
    gated:   z_t = σ(u_z + h_{t-1} A),   h_t = h_{t-1} + ε z_t tanh(u_h + h_{t-1} A)

The forward Euler steps, of length ε, of an ODE whose Jacobian has eigenvalues near the imaginary axis; γ damps it.
In the diagonal form R - Rᵀ is zero: r is without effect and only the damping is left.

Initialisation and the defaults of ε and γ are torchrecurrent 0.2.5's: W Glorot uniform, R unit normal, b zero, ε = 1,
γ = 0. (The paper tunes ε and γ.)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class AntisymmetricRNN(GlorotCell):
    """Gate h. See `GlorotCell` for the parameters.

    Attributes:
      epsilon: the step length ε.
      gamma: the damping γ.
    """

    epsilon: float = 1.0
    gamma: float = 0.0

    gates = ("h",)
    normal = ("r",)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        (u_h,) = u
        return h + self.epsilon * jnp.tanh(u_h + self.antisymmetric(params["r"][0], h))

    def antisymmetric(self, r: jax.Array, h: jax.Array) -> jax.Array:
        """h A, (..., d_state)."""
        transposed = r if self.recurrent == "diagonal" else jnp.swapaxes(r, -1, -2)
        return self.recur(r - transposed, h) - self.gamma * h


@dataclass(frozen=True)
class GatedAntisymmetricRNN(AntisymmetricRNN):
    """Gates z, h, which share one recurrent map."""

    gates = ("z", "h")
    recurrent_gates = ("h",)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        u_z, u_h = u
        q = self.antisymmetric(params["r"][0], h)
        return h + self.epsilon * jax.nn.sigmoid(u_z + q) * jnp.tanh(u_h + q)
