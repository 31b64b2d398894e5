"""How a (B, T, D) array is cut for a TPU kernel that steps through time.

It lies in HBM as tiles of 8 steps by 128 channels. Seen as (B, T/8, D/128 * 8, 128) - the same bytes, no copy - every
eighth row belongs to the same step, so that a strided load brings 8 x 128 channels of it as one full vector register.
The grid runs over batch rows, groups of 128 channels and blocks of time, time last and in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl  # the only way to write a kernel
from jax.experimental.pallas import tpu as pltpu

from jaxseq.ops.channelwise import OUTSIDE, SKIP, Arrays

STEPS, LANES = 8, 128  # of one tile in HBM
VMEM = 12 * 2**20  # bytes for the blocks of two grid steps, of the 16 MiB that every chip has for a kernel


Order = Callable[[Any], Any]


class Block(NamedTuple):
    """An operand of a kernel as its grid sees it, and how it is cut; of a result the shape stands for the array."""

    array: Any
    spec: pl.BlockSpec


class Tile(NamedTuple):
    """One vector register of state: `size` x 128 channels from `group` on, of batch row `row`."""

    row: int
    group: int
    size: int

    @property
    def channels(self) -> Any:
        """Its place in a block of `tables`."""
        return (slice(self.group, self.group + self.size),)

    @property
    def state(self) -> Any:
        """Its place in a block of `state`."""
        return (self.row, *self.channels)


@dataclass(frozen=True)
class Layout:
    """A program's block: `rows` batch rows, `groups` x 128 channels, `blocks` x 8 steps; time is padded to 8 steps and
    channels to 128, and a block may reach over the end in channels and time.
    """

    batch: int
    time: int
    width: int
    rows: int
    groups: int
    blocks: int

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The registers that hold one step's state."""
        starts = range(0, self.groups, 8)
        return tuple(Tile(row, g, min(8, self.groups - g)) for row in range(self.rows) for g in starts)

    @property
    def eights(self) -> int:
        """Groups of 8 steps in the whole sequence."""
        return pl.cdiv(self.time, STEPS)

    @property
    def lanes(self) -> int:
        """Groups of 128 channels in the whole array."""
        return pl.cdiv(self.width, LANES)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Programs over batch, channels, time."""
        return self.batch // self.rows, pl.cdiv(self.lanes, self.groups), pl.cdiv(self.eights, self.blocks)

    def at(self, tile: Tile, k: Any, s: int) -> Any:
        """Where a block of `steps` has the register of `tile` at step 8 k + s."""
        return jnp.int32(tile.row), jnp.int32(k), pl.ds(tile.group * STEPS + s, tile.size, stride=STEPS), slice(None)

    def steps(self, arrays: Arrays, order: Order) -> list[Block]:
        """Arrays (B, T, D); the t-th program over time has block order(t)."""
        return [Block(self._cut(x), self._steps_spec(order)) for x in arrays]

    def step_results(self, count: int, order: Order) -> list[Block]:
        """Results (B, T, D), to be read by `whole`."""
        shape = jax.ShapeDtypeStruct((self.batch, self.eights, self.lanes * STEPS, LANES), jnp.float32)
        return [Block(shape, self._steps_spec(order))] * count

    def edges(self, arrays: Arrays, order: Order) -> list[Block]:
        """Of arrays (B, T, D) the 8 steps before block order(t); of the first block its own first 8, not to be used."""
        block = (self.rows, 1, self.groups * STEPS, LANES)
        spec = pl.BlockSpec(block, lambda b, g, t: (b, jnp.maximum(order(t) * self.blocks - 1, 0), g, 0))
        return [Block(self._cut(x), spec) for x in arrays]

    def tables(self, arrays: Arrays) -> list[Block]:
        """Arrays (D,)."""
        spec = pl.BlockSpec((self.groups, LANES), lambda b, g, t: (g, 0))
        return [Block(self._group(x), spec) for x in arrays]

    def state(self, arrays: Arrays) -> list[Block]:
        """Arrays (B, D)."""
        return [Block(self._group(x), self._state_spec()) for x in arrays]

    def state_results(self, count: int) -> list[Block]:
        """Results (B, D), to be read by `row`."""
        shape = jax.ShapeDtypeStruct((self.batch, self.lanes, LANES), jnp.float32)
        return [Block(shape, self._state_spec())] * count

    def flags(self, flags: jax.Array | None, order: Order) -> Block | None:
        """Flags (B, T) int32 in scalar memory; the steps that a block has over the end are skipped."""
        length = self.blocks * STEPS
        if flags is None and self.time % length == 0:
            return None
        flags = jnp.zeros((self.batch, self.time), jnp.int32) if flags is None else flags
        flags = jnp.pad(flags, ((0, 0), (0, -self.time % length)), constant_values=SKIP | OUTSIDE)
        spec = pl.BlockSpec((self.rows, 1, 1, length), lambda b, g, t: (b, order(t), 0, 0), memory_space=pltpu.SMEM)
        return Block(flags.reshape(self.batch, -1, 1, length), spec)

    def _steps_spec(self, order: Order) -> pl.BlockSpec:
        block = (self.rows, self.blocks, self.groups * STEPS, LANES)
        return pl.BlockSpec(block, lambda b, g, t: (b, order(t), g, 0))

    def _state_spec(self) -> pl.BlockSpec:
        return pl.BlockSpec((self.rows, self.groups, LANES), lambda b, g, t: (b, g, 0))

    def _cut(self, x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, -self.time % STEPS), (0, -self.width % LANES)))
        x = x.reshape(self.batch, self.eights, STEPS, self.lanes, LANES).swapaxes(2, 3)
        return x.reshape(self.batch, self.eights, self.lanes * STEPS, LANES)

    def _group(self, x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -self.width % LANES)])
        return x.reshape(*x.shape[:-1], self.lanes, LANES)

    def whole(self, x: jax.Array) -> jax.Array:
        """A result of `step_results` as (B, T, D)."""
        x = x.reshape(self.batch, self.eights, self.lanes, STEPS, LANES).swapaxes(2, 3)
        x = x.reshape(self.batch, self.eights * STEPS, self.lanes * LANES)
        return x[:, : self.time, : self.width]

    def row(self, x: jax.Array) -> jax.Array:
        """A result of `state_results` as (B, D)."""
        return x.reshape(*x.shape[:-2], self.lanes * LANES)[..., : self.width]


def make_layout(batch: int, time: int, width: int, arrays: int) -> Layout:
    """Four registers of state where there are the channels or rows for them, because each hides the others' latency,
    and as many steps as fit with blocks of `arrays` arrays in flight.
    """
    lanes = pl.cdiv(width, LANES)
    groups = next((n for n in (32, 16) if lanes % n == 0), min(8, lanes))
    rows = next(n for n in (4, 2, 1) if batch % n == 0 and n * pl.cdiv(groups, 8) <= 4)
    most = VMEM // (arrays * 2 * rows * groups * STEPS * LANES * 4)
    return Layout(batch, time, width, rows, groups, _cut_time(pl.cdiv(time, STEPS), max(1, most)))


def _cut_time(eights: int, most: int) -> int:
    """A block length that divides the sequence, if one is at least half of `most`; else one that leaves little over."""
    for blocks in range(min(most, eights), most // 2, -1):
        if eights % blocks == 0:
            return blocks
    return pl.cdiv(eights, pl.cdiv(eights, most))
