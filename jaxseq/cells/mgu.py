"""Minimal gated unit (Zhou, Wu, Zhang and Zhou 2016, arXiv 1603.09420).

    f_t = σ(u_f + h_{t-1} R_f),    n_t = φ(u_h + (f_t h_{t-1}) R_h)
    h_t = (1 - f_t) h_{t-1} + f_t n_t,            u_v = x W_v + b_v

φ is tanh in the paper. f is before the matrix, and weights the candidate. With φ = tanh, h stays in [-1, 1].

Initialisation is ours: weights uniform in ±1/√(channels of a head), zero biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxseq.cells.nonlinearity import NONLINEARITIES, RANGES, Interval, check_nonlinearities
from jaxseq.cells.recurrent import Params, RecurrentCell


@dataclass(frozen=True)
class MGU(RecurrentCell):
    """Gates f, h. See `RecurrentCell` for the parameters.

    Attributes:
      nonlinearity: φ, a name in NONLINEARITIES.
    """

    nonlinearity: str = "tanh"

    gates = ("f", "h")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonlinearities(nonlinearity=self.nonlinearity)

    @property
    def invariant(self) -> dict[str, Interval]:
        """The range of φ."""
        return {"h": RANGES[self.nonlinearity]} if self.nonlinearity in RANGES else {}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, jax.Array]) -> jax.Array:
        """h_t (..., d_state)."""
        r_f, r_h = params["r"]
        u_f, u_h = u
        f = jax.nn.sigmoid(u_f + self.recur(r_f, h))
        n = NONLINEARITIES[self.nonlinearity](u_h + self.recur(r_h, f * h))
        return (1 - f) * h + f * n
