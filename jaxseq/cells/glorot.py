"""Gated cells with the initialisation of Glorot and Bengio 2010, as the cells of torchrecurrent 0.2.5 have it.

A stack of k maps is drawn as the one matrix it is stored as there: uniform in ±√(6 / (inputs + k outputs)). A cell may
have a second stack of maps that sees something other than h, and recurrent maps with a bias of their own, where
that bias does not simply add to the input's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell


@dataclass(frozen=True)
class GlorotCell(RecurrentCell):
    """Parameters: w, r, b of `RecurrentCell`; m (memory gates, ...) shaped as r; b_r (recurrent biases, d_state).

    Attributes:
      biases: names of the rows of b, if they are not `gates`.
      memory_gates: names of the maps in m; without any there is no m.
      recurrent_biases: names of the rows of b_r; without any there is no b_r.
      normal: the stacks among r and m that start as a unit normal instead.
    """

    biases: ClassVar[tuple[str, ...] | None] = None
    memory_gates: ClassVar[tuple[str, ...]] = ()
    recurrent_biases: ClassVar[tuple[str, ...]] = ()
    normal: ClassVar[tuple[str, ...]] = ()

    def init(self, key: jax.Array) -> Params:
        """Glorot uniform (or unit normal) maps, zero biases, float32."""
        key_w, key_r, key_m = jax.random.split(key, 3)
        params = {
            "w": self.input_maps(key_w, len(self.gates)),
            "r": self._stack("r", key_r, self._recurrent_count()),
            "b": jnp.zeros((len(self.gates if self.biases is None else self.biases), self.d_state)),
        }
        if self.memory_gates:
            params["m"] = self._stack("m", key_m, len(self.memory_gates))
        if self.recurrent_biases:
            params["b_r"] = jnp.zeros((len(self.recurrent_biases), self.d_state))
        return params

    def input_maps(self, key: jax.Array, gates: int) -> jax.Array:
        """A stack (gates, heads, d_input / heads, d_state / heads) of input maps."""
        return _glorot(key, self.w_shape(gates), self.d_input // self.heads, gates * self.d_state // self.heads)

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """As `RecurrentCell`'s."""
        axes = super().axes()
        return {**axes, "m": axes["r"], "b_r": axes["b"]}

    def _stack(self, name: str, key: jax.Array, gates: int) -> jax.Array:
        """Recurrent maps; in the diagonal form they are drawn in the bounds of the dense one."""
        shape, width = self.r_shape(gates), self.d_state // self.heads
        return jax.random.normal(key, shape) if name in self.normal else _glorot(key, shape, width, gates * width)


def _glorot(key: jax.Array, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    """Uniform of variance 2 / (fan_in + fan_out)."""
    bound = sqrt(6 / (fan_in + fan_out))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
