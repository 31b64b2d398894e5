"""Coupled oscillatory RNN (Rusch and Mishra 2021, arXiv 2010.00951, equation 3).

    z_t = z_{t-1} + dt (tanh(u + y_{t-1} R_y + z_{t-1} R_z) - γ y_{t-1} - ε z_{t-1})
    y_t = y_{t-1} + dt z_t,            u = x W + b

y is the position of an oscillator and the output, z its velocity. The damping ε acts on z_{t-1}, as in the authors'
code; the paper also has it act on z_t. Nothing bounds the states for arbitrary weights.

Initialisation is ours: weights uniform in ±1/√(channels of a head), zero biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell

State = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class CoRNN(RecurrentCell):
    """One gate, recurrent maps of y and z, states z, y. See `RecurrentCell` for the parameters.

    Attributes:
      dt: step size.
      gamma: stiffness.
      epsilon: damping.
    """

    dt: float = 0.1
    gamma: float = 1.0
    epsilon: float = 1.0

    gates = ("z",)
    recurrent_gates = ("y", "z")
    states = ("z", "y")

    def step(self, params: Params, h: State, u: tuple[jax.Array]) -> State:
        """(z_t, y_t) from (z_{t-1}, y_{t-1})."""
        z, y = h
        (r_y, r_z), (u_z,) = params["r"], u
        force = jnp.tanh(u_z + self.recur(r_y, y) + self.recur(r_z, z))
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        return z, y + self.dt * z
