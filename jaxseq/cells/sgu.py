"""SGU and DSGU, the (deep) simple gated units (Gao and Glowacka 2016, "Deep gate recurrent neural network", ACML,
arXiv 1604.02910).

    z_g = tanh((u_g h_{t-1}) R_g + b_g),   z_t = hard σ(u_z + h_{t-1} R_z)
    SGU:    o_t = softplus(z_g h_{t-1})
    DSGU:   o_t = σ((z_g h_{t-1}) M_o)
    h_t = (1 - z_t) h_{t-1} + z_t o_t

u_g multiplies the state: it takes the place of a reset gate. hard σ(x) = min(max(x + 3, 0), 6) / 6, as torch has it.
A state of DSGU stays in [0, 1]; from zero, a state of SGU stays positive but may grow. torchrecurrent 0.2.5 adds the
bias b_g, which the paper has not, and initialisation is its: Glorot uniform maps, zero biases. (Its softplus is the
identity beyond 20, where ours differs from that by at most 2e-9.)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params


@dataclass(frozen=True)
class SGU(GlorotCell):
    """Gates g, z, with a bias b_r of g's recurrent map. See `GlorotCell` for the parameters."""

    gates = ("g", "z")
    recurrent_biases = ("g",)

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t from h_{t-1} (..., d_state)."""
        (r_g, r_z), (b_g,) = params["r"], params["b_r"]
        u_g, u_z = u
        z_g = jnp.tanh(self.recur(r_g, u_g * h) + b_g)
        z = jax.nn.hard_sigmoid(u_z + self.recur(r_z, h))
        return (1 - z) * h + z * self.proposal(params, z_g * h)

    def proposal(self, params: Params, gated: jax.Array) -> jax.Array:
        """o_t from z_g h_{t-1} (..., d_state)."""
        return jax.nn.softplus(gated)


@dataclass(frozen=True)
class DSGU(SGU):
    """SGU with one more recurrent map, m (1, ...)."""

    memory_gates = ("o",)
    decay = ("w", "r", "m")
    invariant = {"h": (0.0, 1.0)}

    def proposal(self, params: Params, gated: jax.Array) -> jax.Array:
        """o_t from z_g h_{t-1} (..., d_state)."""
        return jax.nn.sigmoid(self.recur(params["m"][0], gated))
