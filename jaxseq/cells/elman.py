"""The simple recurrent network (Elman 1990, "Finding structure in time"), as torch.nn.RNN.

    h_t = φ(u + h_{t-1} R),   u = x W + b

φ is tanh unless told otherwise (torch.nn.RNN has relu besides). Initialisation is torch's: W and R uniform in
±1/√(channels of a head); b zero, where torch draws it from the same interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxseq.cells.nonlinearity import NONLINEARITIES, RANGES, Interval, check_nonlinearities
from jaxseq.cells.recurrent import Params, RecurrentCell


@dataclass(frozen=True)
class Elman(RecurrentCell):
    """One gate. See `RecurrentCell` for the parameters.

    Attributes:
      nonlinearity: φ, a name in NONLINEARITIES.
    """

    nonlinearity: str = "tanh"

    gates = ("h",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonlinearities(nonlinearity=self.nonlinearity)

    @property
    def invariant(self) -> dict[str, Interval]:
        """The range of φ."""
        return {"h": RANGES[self.nonlinearity]} if self.nonlinearity in RANGES else {}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array]) -> jax.Array:
        """h_t (..., d_state)."""
        (r,), (u_h,) = params["r"], u
        return NONLINEARITIES[self.nonlinearity](u_h + self.recur(r, h))
