"""MUT1, MUT2 and MUT3, the three mutations of the GRU found by search (Jozefowicz, Zaremba and Sutskever 2015, "An
empirical exploration of recurrent network architectures", ICML).

    r_t = σ(u_r + h_{t-1} R_r),   h_t = z_t n_t + (1 - z_t) h_{t-1}
    MUT1:   z_t = σ(u_z),                          n_t = tanh((r_t h_{t-1}) R_n + tanh(u_n) + b_n)
    MUT2:   z_t = σ(u_z + h_{t-1} R_z),            n_t = tanh(u_n + (r_t h_{t-1}) R_n)
    MUT3:   z_t = σ(u_z + tanh(h_{t-1}) R_z),      n_t = tanh(u_n + (r_t h_{t-1}) R_n)

z weights the candidate. Followed to the number is torchrecurrent 0.2.5: the paper's MUT1 has tanh(x_t) and its MUT2
has x_t itself, both without a map, where there is tanh(u_n) in n_t and u_r in r_t here. Initialisation is its: W and
R Glorot uniform, biases zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

Inputs = tuple[jax.Array, ...]


@dataclass(frozen=True)
class MUT1(GlorotCell):
    """Gates z, r and candidate n; z has no recurrent map, n's has a bias b_r. See `GlorotCell` for the parameters."""

    gates = ("z", "r", "n")
    recurrent_gates = ("r", "n")
    recurrent_biases = ("n",)
    invariant = {"h": (-1.0, 1.0)}

    def inputs(self, params: Params, x: jax.Array) -> Inputs:
        """(z_t, u_r, tanh(u_n) + b_n), each (B, T, d_state)."""
        u_z, u_r, u_n = super().inputs(params, x)
        return jax.nn.sigmoid(u_z), u_r, jnp.tanh(u_n) + params["b_r"][0]

    def step(self, params: Params, h: jax.Array, u: Inputs) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        r_r, r_n = params["r"]
        z, u_r, u_n = u
        r = jax.nn.sigmoid(u_r + self.recur(r_r, h))
        return z * jnp.tanh(u_n + self.recur(r_n, r * h)) + (1 - z) * h


@dataclass(frozen=True)
class MUT2(GlorotCell):
    """Gates z, r and candidate n. See `GlorotCell` for the parameters."""

    gates = ("z", "r", "n")
    invariant = {"h": (-1.0, 1.0)}

    def step(self, params: Params, h: jax.Array, u: Inputs) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        r_z, r_r, r_n = params["r"]
        u_z, u_r, u_n = u
        z = jax.nn.sigmoid(u_z + self.recur(r_z, self.seen(h)))
        r = jax.nn.sigmoid(u_r + self.recur(r_r, h))
        return z * jnp.tanh(u_n + self.recur(r_n, r * h)) + (1 - z) * h

    def seen(self, h: jax.Array) -> jax.Array:
        """What the gate z sees of h (..., d_state)."""
        return h


@dataclass(frozen=True)
class MUT3(MUT2):
    """MUT2 whose gate z sees tanh(h)."""

    def seen(self, h: jax.Array) -> jax.Array:
        """What the gate z sees of h (..., d_state)."""
        return jnp.tanh(h)
