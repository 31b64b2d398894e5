"""ParaGRU: a GRU whose recurrent weights are diagonal (Danieli et al. 2025, arXiv 2510.21450, section 4.1).

    z_t = σ(a_z h_{t-1} + u_z),   r_t = σ(a_r h_{t-1} + u_r),   c_t = tanh(a_c h_{t-1} r_t + u_c)
    h_t = (1 - z_t) h_{t-1} + z_t c_t,            u_v = x W_v + b_v for v in z, r, c

elementwise in h; z weights the candidate, the other way round from torch.nn.GRU. With several heads W_v is
block-diagonal. States stay in [-1, 1] if they start there. Any of the three nonlinearities can be another, as in the
authors' library.

Initialisation is the paper's: W uniform in ±√(3 / fan_in), a truncated normal of deviation 1/√d_state cut at ±0.9,
b zero. (The authors' library draws b_z from -linspace(0, 1) instead.) The paper keeps |a| <= 0.5 while training: there
Newton needs about three iterations whatever the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.base import Cell, head_matmul
from jaxseq.cells.nonlinearity import CONVEX, NONLINEARITIES, RANGES, Interval, check_nonlinearities

Params = dict[str, jax.Array]
Gates = tuple[jax.Array, jax.Array, jax.Array]


@dataclass(frozen=True)
class ParaGRU(Cell):
    """Parameters: a (3, d_state), w (3, heads, d_input / heads, d_state / heads), b (3, d_state), gates z, r, c.

    Attributes:
      nonlin_update, nonlin_reset: of the gates z and r, names in NONLINEARITIES.
      nonlin_state: of the candidate c.
    """

    nonlin_update: str = "sigmoid"
    nonlin_reset: str = "sigmoid"
    nonlin_state: str = "tanh"

    decay = ("w",)
    clip = {"a": 0.5}

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("nonlin_update", "nonlin_reset", "nonlin_state")
        check_nonlinearities(**{name: getattr(self, name) for name in names})

    @property
    def invariant(self) -> dict[str, Interval]:
        """h is an average of candidates if z is a sigmoid."""
        bounded = self.nonlin_update in CONVEX and self.nonlin_state in RANGES
        return {"h": RANGES[self.nonlin_state]} if bounded else {}

    def init(self, key: jax.Array) -> Params:
        """The paper's initialisation, see the module."""
        key_a, key_w = jax.random.split(key)
        d_in, d_out = self.d_input // self.heads, self.d_state // self.heads
        bound, deviation = sqrt(3 / d_in), 1 / sqrt(self.d_state)
        cut = 0.9 / deviation
        return {
            "a": deviation * jax.random.truncated_normal(key_a, -cut, cut, (3, self.d_state)),
            "w": jax.random.uniform(key_w, (3, self.heads, d_in, d_out), minval=-bound, maxval=bound),
            "b": jnp.zeros((3, self.d_state)),
        }

    def inputs(self, params: Params, x: jax.Array) -> Gates:
        """(u_z, u_r, u_c), each (B, T, d_state) float32."""
        return tuple(head_matmul(x, w) + b for w, b in zip(params["w"], params["b"], strict=True))

    def step(self, params: Params, h: jax.Array, u: Gates) -> jax.Array:
        """h_t, elementwise in h (..., d_state)."""
        a_z, a_r, a_c = params["a"]
        u_z, u_r, u_c = u
        z = NONLINEARITIES[self.nonlin_update](a_z * h + u_z)
        r = NONLINEARITIES[self.nonlin_reset](a_r * h + u_r)
        c = NONLINEARITIES[self.nonlin_state](a_c * h * r + u_c)
        return (1 - z) * h + z * c

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """One head is split over its outputs, several over the heads."""
        w = ("gate", None, "embed", "inner") if self.heads == 1 else ("gate", "heads", "embed", None)
        return {"a": ("gate", "inner"), "w": w, "b": ("gate", "inner")}
