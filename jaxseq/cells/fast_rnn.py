"""FastRNN and FastGRNN (Kusupati, Singh, Bhatia, Kumar, Jain and Varma 2018, arXiv 1901.02358).

    FastRNN:    h_t = σ(α) tanh(u + h_{t-1} R) + σ(β) h_{t-1}
    FastGRNN:   p = x_t W + h_{t-1} R,   z_t = σ(p + b_z),   n_t = tanh(p + b_n)
                h_t = (σ(ζ) (1 - z_t) + σ(ν)) n_t + z_t h_{t-1}

α, β, ζ, ν are learned scalars; z keeps the past. FastGRNN's gate and candidate share W and R. In torchrecurrent 0.2.5
z_t is a tanh unless asked for a sigmoid: field `gate`; its layout reads cells of gate="tanh". Initialisation is
torchrecurrent's: W and R Glorot uniform, b zero, α = ζ = 3, β = ν = -3.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.base import head_matmul
from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

GATES = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}


@dataclass(frozen=True)
class FastRNN(GlorotCell):
    """Candidate h; alpha (1,) and beta (1,) besides the parameters of `GlorotCell`."""

    gates = ("h",)

    def init(self, key: jax.Array) -> Params:
        """torchrecurrent's initialisation, see the module."""
        return {**super().init(key), "alpha": jnp.full((1,), 3.0), "beta": jnp.full((1,), -3.0)}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        n = jnp.tanh(u[0] + self.recur(params["r"][0], h))
        return jax.nn.sigmoid(params["alpha"]) * n + jax.nn.sigmoid(params["beta"]) * h


@dataclass(frozen=True)
class FastGRNN(GlorotCell):
    """One shared pre-activation p with biases z, n; zeta (1,) and nu (1,) besides the parameters of `GlorotCell`.

    Attributes:
      gate: what z_t is a function of, "sigmoid" (the paper) or "tanh" (torchrecurrent's default).
    """

    gate: str = "sigmoid"

    gates = ("p",)
    biases = ("z", "n")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {', '.join(GATES)}, got {self.gate!r}")

    def init(self, key: jax.Array) -> Params:
        """torchrecurrent's initialisation, see the module."""
        return {**super().init(key), "zeta": jnp.full((1,), 3.0), "nu": jnp.full((1,), -3.0)}

    def inputs(self, params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        """(x W + b_z, x W + b_n), each (B, T, d_state)."""
        p = head_matmul(x, params["w"][0])
        b_z, b_n = params["b"]
        return p + b_z, p + b_n

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        u_z, u_n = u
        q = self.recur(params["r"][0], h)
        z, n = GATES[self.gate](u_z + q), jnp.tanh(u_n + q)
        return (jax.nn.sigmoid(params["zeta"]) * (1 - z) + jax.nn.sigmoid(params["nu"])) * n + z * h
