"""Long Expressive Memory (Rusch, Mishra, Erichson and Mahoney 2022, arXiv 2110.04744, equation 3).

    Δ_t = dt σ(u_Δ + y_{t-1} R_Δ),    Δ'_t = dt σ(u_Δ' + y_{t-1} R_Δ')
    z_t = (1 - Δ_t) z_{t-1} + Δ_t tanh(u_z + y_{t-1} R_z)
    y_t = (1 - Δ'_t) y_{t-1} + Δ'_t tanh(u_y + z_t R_y),           u_v = x W_v + b_v

Δ' is the paper's Δ with a bar, the rate of y; the output is y. The authors' code stacks its input map as Δ', Δ, the one
of y, the one of z, and has a second bias on the maps of the state, which adds to b. `StaleLEM` reads z_{t-1} instead of
z_t in the last line, as the package torchrecurrent does. With dt <= 1 both states stay in [-1, 1].

Initialisation is the authors': all weights uniform in ±1/√(channels of a head); biases, which they draw too, are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class LEM(RecurrentCell):
    """Gates Δ', Δ, z, y, states z, y. See `RecurrentCell` for the parameters.

    Attributes:
      dt: the largest rate of change.
    """

    dt: float = 1.0

    gates = ("dt_bar", "dt", "z", "y")
    states = ("z", "y")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dt > 0:
            raise ValueError(f"dt must be positive, got {self.dt}")

    @property
    def invariant(self) -> dict[str, tuple[float, float]]:
        """Both states are averages of tanh's as long as no rate exceeds 1."""
        return {"z": (-1.0, 1.0), "y": (-1.0, 1.0)} if self.dt <= 1 else {}

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(z_t, y_t) from (z_{t-1}, y_{t-1})."""
        z, y = h
        *_, r_y = params["r"]
        *_, u_y = u
        rate_y, rate_z, c = self._rates(params, y, u)
        z = (1 - rate_z) * z + rate_z * c
        return z, (1 - rate_y) * y + rate_y * jnp.tanh(u_y + self.recur(r_y, z))

    def _rates(self, params: Params, y: jax.Array, u: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Δ'_t, Δ_t and what z moves to."""
        r_bar, r_dt, r_z, _ = params["r"]
        u_bar, u_dt, u_z, _ = u
        rate_y = self.dt * jax.nn.sigmoid(u_bar + self.recur(r_bar, y))
        rate_z = self.dt * jax.nn.sigmoid(u_dt + self.recur(r_dt, y))
        return rate_y, rate_z, jnp.tanh(u_z + self.recur(r_z, y))


@dataclass(frozen=True)
class StaleLEM(LEM):
    """`LEM` whose y_t is made from z_{t-1}."""

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(z_t, y_t) from (z_{t-1}, y_{t-1})."""
        z, y = h
        *_, r_y = params["r"]
        *_, u_y = u
        rate_y, rate_z, c = self._rates(params, y, u)
        y = (1 - rate_y) * y + rate_y * jnp.tanh(u_y + self.recur(r_y, z))
        return (1 - rate_z) * z + rate_z * c, y
