"""UnICORNN, undamped independent oscillators (Rusch and Mishra 2021, arXiv 2103.05487).

    s = dt σ(c)
    z_t = z_{t-1} - s (tanh(a y_{t-1} + u) + α y_{t-1})
    y_t = y_{t-1} + s z_t,            u = x W + b

elementwise in the states: y is the position and the output, z the velocity, and c gives every channel its own time
scale. (a is the paper's w; σ is its (1 + tanh(c / 2)) / 2.) A step is a symplectic Euler step: its Jacobian has
determinant 1 whatever the weights, so nothing is forgotten and nothing bounds the states.

Initialisation is the authors' code's: a uniform in (0, 1), c in ±0.1, W in ±√(6 / (65 fan_in)), b zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.channelwise import ChannelwiseCell, Params

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class UnICORNN(ChannelwiseCell):
    """States z, y. Parameters: w (1, heads, d_input / heads, d_state / heads), and a, c, b (1, d_state).

    Attributes:
      dt: the longest step.
      alpha: stiffness of the linear spring.
    """

    dt: float = 0.1
    alpha: float = 0.0

    gates = ("z",)
    vectors = ("a", "c")
    states = ("z", "y")

    def init(self, key: jax.Array) -> Params:
        """The authors' initialisation, see the module."""
        key_a, key_c, key_w = jax.random.split(key, 3)
        bound = sqrt(6 / (65 * (self.d_input // self.heads)))
        return {
            "a": jax.random.uniform(key_a, (1, self.d_state)),
            "c": jax.random.uniform(key_c, (1, self.d_state), minval=-0.1, maxval=0.1),
            "w": jax.random.uniform(key_w, self.w_shape(), minval=-bound, maxval=bound),
            "b": jnp.zeros((1, self.d_state)),
        }

    def step(self, params: Params, h: State, u: tuple[jax.Array]) -> State:
        """(z_t, y_t) from (z_{t-1}, y_{t-1}), elementwise."""
        z, y = h
        (a,), (c,), (u_z,) = params["a"], params["c"], u
        s = self.dt * jax.nn.sigmoid(c)
        z = z - s * (jnp.tanh(a * y + u_z) + self.alpha * y)
        return z, y + s * z
