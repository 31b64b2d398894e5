"""ParaLSTM: an LSTM with diagonal recurrent weights and peepholes (Danieli et al. 2025, arXiv 2510.21450).

    f_t = σ(a_f h_{t-1} + p_f c_{t-1} + u_f),    z_t = tanh(a_z h_{t-1} + u_z)
    c_t = f_t c_{t-1} + (1 - f_t) z_t
    o_t = σ(a_o h_{t-1} + p_o c_t + u_o),        h_t = o_t tanh(c_t),          u_v = x W_v + b_v for v in f, z, o

elementwise in c and h. The input gate is 1 - f; p are the paper's c, peepholes into the old c (f) and the new one (o).
The authors' library stacks its gates as f, o, z. With several heads W_v is block-diagonal. Both states stay in [-1, 1].

Initialisation is the paper's: W uniform in ±√(3 / fan_in), a truncated normal of deviation 1/√d_state cut at ±0.9, b
zero; p is drawn as a. (The authors' library draws b_f from -linspace(0, 1) instead.) The paper keeps |a| <= 0.5 while
training. Any of the four nonlinearities can be another, as in the authors' library.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.channelwise import ChannelwiseCell, Params
from jaxseq.cells.nonlinearity import CONVEX, NONLINEARITIES, RANGES, Interval, check_nonlinearities, range_of_product

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class ParaLSTM(ChannelwiseCell):
    """Gates f, z, o, states c, h.

    Parameters: a (3, d_state), p (2, d_state) for f and o, w (3, heads, d_input / heads, d_state / heads),
    b (3, d_state).

    Attributes:
      nonlin_f, nonlin_o: of the gates f and o, names in NONLINEARITIES.
      nonlin_c: of the candidate z.
      nonlin_state: of c in the last equation.
    """

    nonlin_f: str = "sigmoid"
    nonlin_o: str = "sigmoid"
    nonlin_c: str = "tanh"
    nonlin_state: str = "tanh"

    gates = ("f", "z", "o")
    vectors = ("a", "p")
    states = ("c", "h")
    clip = {"a": 0.5}

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("nonlin_f", "nonlin_o", "nonlin_c", "nonlin_state")
        check_nonlinearities(**{name: getattr(self, name) for name in names})

    @property
    def invariant(self) -> dict[str, Interval]:
        """c is an average of candidates if f is a sigmoid, h a product."""
        c = RANGES.get(self.nonlin_c) if self.nonlin_f in CONVEX else None
        bounds = {"c": c, "h": range_of_product(self.nonlin_o, self.nonlin_state)}
        return {name: interval for name, interval in bounds.items() if interval}

    def init(self, key: jax.Array) -> Params:
        """The paper's initialisation, see the module."""
        key_a, key_p, key_w = jax.random.split(key, 3)
        bound, deviation = sqrt(3 / (self.d_input // self.heads)), 1 / sqrt(self.d_state)
        cut = 0.9 / deviation
        return {
            "a": deviation * jax.random.truncated_normal(key_a, -cut, cut, (3, self.d_state)),
            "p": deviation * jax.random.truncated_normal(key_p, -cut, cut, (2, self.d_state)),
            "w": jax.random.uniform(key_w, self.w_shape(), minval=-bound, maxval=bound),
            "b": jnp.zeros((3, self.d_state)),
        }

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, h_t) from (c_{t-1}, h_{t-1}), elementwise."""
        c, h_before = h
        (a_f, a_z, a_o), (p_f, p_o) = params["a"], params["p"]
        u_f, u_z, u_o = u
        f = NONLINEARITIES[self.nonlin_f](a_f * h_before + p_f * c + u_f)
        z = NONLINEARITIES[self.nonlin_c](a_z * h_before + u_z)
        c = f * c + (1 - f) * z
        o = NONLINEARITIES[self.nonlin_o](a_o * h_before + p_o * c + u_o)
        return c, o * NONLINEARITIES[self.nonlin_state](c)
