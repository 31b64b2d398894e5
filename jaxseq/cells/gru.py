"""GRU with the reset gate behind the matrix (Cho et al. 2014, arXiv 1406.1078, in the form of cuDNN).

    r_t, z_t = σ(u_r + h_{t-1} R_r), σ(u_z + h_{t-1} R_z)
    n_t = tanh(u_n + r_t (h_{t-1} R_n + b_n))
    h_t = (1 - z_t) n_t + z_t h_{t-1},            u_v = x W_v + b_v

This is torch.nn.GRU and flax.linen.GRUCell: z weights the old state (in the paper and here; in ParaGRU it weights the
candidate). The paper has r before the matrix, (r h) R_n. torch has a second bias on the gates r and z, which adds to
the first; flax has none. h stays in [-1, 1].

Initialisation: `GRU` as torch (uniform in ±1/√(channels of a head)), `FlaxGRU` as flax: W LeCun normal, R orthogonal
for every gate and head (in the diagonal form 1 or -1). Biases start at zero in both, which torch does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell


@dataclass(frozen=True)
class GRU(RecurrentCell):
    """Gates r, z, n (torch's order). Parameters: those of `RecurrentCell` and b_r (1, d_state), n's inner bias."""

    gates = ("r", "z", "n")
    invariant = {"h": (-1.0, 1.0)}

    def init(self, key: jax.Array) -> Params:
        """torch's weights, zero biases."""
        return {**super().init(key), "b_r": jnp.zeros((1, self.d_state))}

    def step(self, params: Params, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        """h_t (..., d_state)."""
        r_r, r_z, r_n = params["r"]
        (b_n,), (u_r, u_z, u_n) = params["b_r"], u
        r = jax.nn.sigmoid(u_r + self.recur(r_r, h))
        z = jax.nn.sigmoid(u_z + self.recur(r_z, h))
        n = jnp.tanh(u_n + r * (self.recur(r_n, h) + b_n))
        return (1 - z) * n + z * h

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Those of `RecurrentCell`, and the inner bias."""
        return {**super().axes(), "b_r": ("gate", "inner")}


@dataclass(frozen=True)
class FlaxGRU(GRU):
    """`GRU` with flax's initialisation."""

    def init(self, key: jax.Array) -> Params:
        """LeCun normal input maps, orthogonal recurrent ones, zero biases."""
        key_w, key_r = jax.random.split(key)
        heads, width = (self.d_state, 1) if self.recurrent == "diagonal" else (self.heads, self.d_state // self.heads)
        keys = jax.random.split(key_r, (3, heads))
        blocks = jax.vmap(jax.vmap(lambda k: jax.nn.initializers.orthogonal()(k, (width, width))))(keys)
        return {
            "w": jax.nn.initializers.lecun_normal(batch_axis=(0, 1))(key_w, self.w_shape(3)),
            "r": blocks.reshape(self.r_shape(3)),
            "b": jnp.zeros((3, self.d_state)),
            "b_r": jnp.zeros((1, self.d_state)),
        }
