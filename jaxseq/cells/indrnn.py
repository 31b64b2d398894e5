"""Independently recurrent network (Li, Li, Cook, Zhu and Gao 2018, arXiv 1803.04831, equation 2).

    h_t = φ(u + a h_{t-1}),   u = x W + b

elementwise in h (a is the paper's u). φ is ReLU in the paper. It keeps |a| <= γ^(1/T) for sequences of length T so that
nothing grows by more than γ over them; the bound recommended here is its limit for long ones, 1.

Initialisation: a uniform in (0, 1) as in the paper; W in ±√(3 / fan_in) and b = 0 are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.channelwise import ChannelwiseCell, Params
from jaxseq.cells.nonlinearity import NONLINEARITIES, RANGES, Interval, check_nonlinearities


@dataclass(frozen=True)
class IndRNN(ChannelwiseCell):
    """Parameters: w (1, heads, d_input / heads, d_state / heads), and a, b (1, d_state).

    Attributes:
      nonlinearity: φ, a name in NONLINEARITIES.
    """

    nonlinearity: str = "relu"

    gates = ("h",)
    vectors = ("a",)
    clip = {"a": 1.0}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonlinearities(nonlinearity=self.nonlinearity)

    @property
    def invariant(self) -> dict[str, Interval]:
        """The range of φ."""
        return {"h": RANGES[self.nonlinearity]} if self.nonlinearity in RANGES else {}

    def init(self, key: jax.Array) -> Params:
        """See the module."""
        key_a, key_w = jax.random.split(key)
        bound = sqrt(3 / (self.d_input // self.heads))
        return {
            "a": jax.random.uniform(key_a, (1, self.d_state)),
            "w": jax.random.uniform(key_w, self.w_shape(), minval=-bound, maxval=bound),
            "b": jnp.zeros((1, self.d_state)),
        }

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array]) -> jax.Array:
        """h_t, elementwise in h (..., d_state)."""
        (a,), (u_h,) = params["a"], u
        return NONLINEARITIES[self.nonlinearity](u_h + a * h)
