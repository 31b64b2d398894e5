"""MiRU1 and MiRU2, minion recurrent units (2026, doi 10.1016/j.neucom.2026.132847; equations as torchrecurrent 0.2.5
documents them): GRUs that keep a constant share λ of the past.

    MiRU1:   r_t = σ(u_r + h_{t-1} R_r),   n_t = tanh(u_h + (r_t h_{t-1}) R_h)
    MiRU2:   n_t = tanh(u_h + (θ h_{t-1}) R_h)
    h_t = λ h_{t-1} + (1 - λ) n_t

λ and θ are constants in [0, 1], not learned. Initialisation is torchrecurrent's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class MiRU1(GlorotCell):
    """Gate r and candidate h. See `GlorotCell` for the parameters.

    Attributes:
      update: λ, the share of the past that is kept, from 0 to 1.
    """

    update: float = 0.5

    gates = ("r", "h")
    invariant = {"h": (-1.0, 1.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("update", self.update)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        r_r, r_h = params["r"]
        u_r, u_h = u
        r = jax.nn.sigmoid(u_r + self.recur(r_r, h))
        return self.update * h + (1 - self.update) * jnp.tanh(u_h + self.recur(r_h, r * h))


@dataclass(frozen=True)
class MiRU2(MiRU1):
    """Candidate h alone.

    Attributes:
      reset: θ, the share of the past that the candidate sees, from 0 to 1.
    """

    reset: float = 0.5

    gates = ("h",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("reset", self.reset)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        n = jnp.tanh(u[0] + self.recur(params["r"][0], self.reset * h))
        return self.update * h + (1 - self.update) * n


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {share}")
