"""What the TPU kernels of matrix states share: how a (B, T, H, K) array is cut, and what the steps of a chunk see.

The grid runs over batch rows, blocks of heads, and chunks, these in order: the states of a block's heads stay in VMEM.
A block has the heads of 8 groups, or of all, because arrays lie in HBM as tiles of 8 heads by 128 channels. The last
chunk may reach over the end: what is read there is not defined, and its steps are masked.

Sums of decays are added up from their own terms, as in `jaxseq/ops/decay.py`; flags select and never multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl  # the only way to write a kernel
from jax.experimental.pallas import tpu as pltpu

from jaxseq.ops.decay import FORGOTTEN
from jaxseq.ops.kernels.layout_tpu import LANES, STEPS, Block, Order

VMEM = 16 * 2**20  # bytes that every chip has for a kernel unless it asks for more
DOCUMENT, REAL = 0, 1  # rows of the flags


@dataclass(frozen=True)
class Chunks:
    """M chunks of `size` steps: G groups of q and k, each for the same number of the H heads of v."""

    batch: int
    time: int
    groups: int
    heads: int
    keys: int
    values: int
    size: int

    @property
    def count(self) -> int:
        """M."""
        return pl.cdiv(self.time, self.size)

    @property
    def ratio(self) -> int:
        """Heads of v in a group."""
        return self.heads // self.groups

    @property
    def block_groups(self) -> int:
        """Groups that a program treats."""
        return 8 if self.groups % 8 == 0 else self.groups

    @property
    def block_heads(self) -> int:
        """Heads that a program treats."""
        return self.block_groups * self.ratio

    @property
    def grid(self) -> tuple[int, int, int]:
        """Programs over batch, heads, chunks."""
        return self.batch, self.groups // self.block_groups, self.count

    @property
    def carried(self) -> tuple[int, int, int]:
        """The shape of the states of a program's heads."""
        return self.block_heads, self.keys, self.values

    def tokens(self, x: Any, order: Order) -> Block:
        """An array (B, T, G, K) or (B, T, H, V), or the shape of a result; the m-th program has chunk order(m)."""
        heads = x.shape[2] * self.block_groups // self.groups
        return Block(x, pl.BlockSpec((1, self.size, heads, x.shape[3]), lambda b, h, m: (b, order(m), h, 0)))

    def numbers(self, x: Any, order: Order) -> Block:
        """Numbers of a step and head (B, M, H, C), see `rows`, or the shape of a result."""
        return Block(x, pl.BlockSpec((1, 1, self.block_heads, self.size), lambda b, h, m: (b, order(m), h, 0)))

    def flags(self, x: jax.Array, order: Order) -> Block:
        """Flags (B, M, 2, C), see `places`."""
        return Block(x, pl.BlockSpec((1, 1, 2, self.size), lambda b, h, m: (b, order(m), 0, 0)))

    def state(self, x: Any) -> Block:
        """An array (B, H, K, V), or the shape of a result."""
        return Block(x, pl.BlockSpec((1, self.block_heads, *x.shape[2:]), lambda b, h, m: (b, h, 0, 0)))

    def states(self, x: Any, order: Order) -> Block:
        """An array (M, B, H, K, V), or the shape of a result."""
        spec = pl.BlockSpec((1, 1, self.block_heads, *x.shape[3:]), lambda b, h, m: (order(m), b, h, 0, 0))
        return Block(x, spec)

    def result(self, *shape: int) -> Any:
        """The shape of a result."""
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def rows(self, x: jax.Array) -> jax.Array:
        """(B, T, H) as (B, M, H, C), zero past the end."""
        x = jnp.pad(x, ((0, 0), (0, self.count * self.size - self.time), (0, 0)))
        return jnp.swapaxes(x.reshape(self.batch, self.count, self.size, -1), 2, 3)

    def steps(self, rows: jax.Array) -> jax.Array:
        """The inverse of `rows`."""
        return jnp.swapaxes(rows, 2, 3).reshape(self.batch, -1, rows.shape[2])[:, : self.time]

    def places(self, reset: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
        """(B, M, 2, C) float32: the resets from a chunk's start through a step, and 1 where the step counts."""
        if reset is None and mask is None and self.time % self.size == 0:
            return None
        reset = jnp.zeros((self.batch, self.time), bool) if reset is None else reset
        mask = jnp.ones((self.batch, self.time), bool) if mask is None else mask
        reset, mask = (self.rows(x[..., None].astype(jnp.float32)) for x in (reset, mask))
        return jnp.concatenate([jnp.cumsum(reset, axis=-1), mask], axis=2)


def make_chunks(q: jax.Array, v: jax.Array, size: int) -> Chunks:
    """Of at most `size` steps, filled up to whole tiles."""
    (batch, time, groups, keys), (heads, values) = q.shape, v.shape[2:]
    size = STEPS * pl.cdiv(min(size, time), STEPS)
    return Chunks(batch, time, groups, heads, keys, values, size)


def call(
    kernel: Callable[..., None], name: str, chunks: Chunks, inputs: Any, results: Any, scratch: Any, interpret: bool
) -> Any:
    """kernel(inputs, results, *scratch) over the grid, of trees of blocks and shapes of scratch arrays."""
    arrays, specs, shapes, result_specs = (
        jax.tree.map(lambda x, i=i: x[i], blocks, is_leaf=lambda x: isinstance(x, Block))
        for blocks, i in ((inputs, 0), (inputs, 1), (results, 0), (results, 1))
    )
    needed = 2 * sum(_bytes(spec.block_shape) for spec in jax.tree.leaves((specs, result_specs)))
    needed += sum(_bytes(shape) for shape in scratch)
    return pl.pallas_call(
        kernel,
        grid=chunks.grid,
        in_specs=[specs],
        out_specs=[result_specs],
        out_shape=[shapes],
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=max(VMEM, needed + VMEM // 2),  # the rest is for what a head computes
        ),
        interpret=interpret,
        name=name,
    )(arrays)[0]


def _bytes(shape: Any) -> int:
    """Of a float32 array in VMEM, filled up to tiles."""
    *lead, rows, lanes = shape
    size = 4 * STEPS * pl.cdiv(rows, STEPS) * LANES * pl.cdiv(lanes, LANES)
    for n in lead:
        size *= n
    return size


class Sight(NamedTuple):
    """What the steps of a chunk see: `seen` (C, C) of each other; in columns (C, 1), None where all do: `real`, those
    that count, `before`, those that see the state before the chunk, and `ending`, those that its end sees; `kept`
    (1, 1), whether the state is.
    """

    seen: jax.Array
    real: jax.Array | None = None
    before: jax.Array | None = None
    ending: jax.Array | None = None
    kept: jax.Array | None = None


def sight(size: int, flags: Any) -> Sight:
    """From a block of flags, None if there are none."""
    causal = index(size, 0) >= index(size, 1)
    if flags is None:
        return Sight(causal)
    document, last = flags[0, 0, DOCUMENT:REAL, :], flags[0, 0, DOCUMENT:REAL, size - 1 :]
    own = column(document)
    real = column(flags[0, 0, REAL:, :]) > 0
    return Sight(causal & (own == document), real, own == 0, own == last, last == 0)


class Decays(NamedTuple):
    """Of a chunk and head: of what step j wrote, `between` (C, C) is left at t and `end` (C, 1) at the chunk's end; of
    the state before, `start` (C, 1) at t and `total` (1, 1) at its end. `broken` (C, 1) is NaN after what is no decay,
    `over` (1, 1) if that is so at the end. All is left where nothing decays.
    """

    between: Any = 1.0
    start: Any = 1.0
    end: Any = 1.0
    total: Any = 1.0
    broken: Any = 1.0
    over: Any = 1.0


def decays(log_a: jax.Array | None, seen: jax.Array) -> Decays:
    """From a row (1, C) of logarithms."""
    if log_a is None:
        return Decays()
    size = log_a.shape[1]
    bad = ~(log_a < jnp.inf)
    finite = jnp.where(bad, 0, jnp.maximum(log_a, FORGOTTEN))
    later, earlier = index(size, 0) > index(size, 1), index(size, 0) < index(size, 1)
    sums = dot(jnp.where(seen, finite, 0), later.astype(jnp.float32))
    start, end = (across(jnp.where(x, finite, 0)) for x in (~earlier, earlier))
    broken = nan_where(across(jnp.where(seen & bad, 1.0, 0.0)) > 0)
    total = jnp.exp(across(finite))
    return Decays(jnp.exp(jnp.where(seen, sums, 0)), jnp.exp(start), jnp.exp(end), total, broken, broken[size - 1 :])


def of_decays(between: jax.Array, start: jax.Array, end: jax.Array, total: jax.Array, seen: jax.Array) -> jax.Array:
    """The cotangents of a row (1, C) of logarithms, from those of the logarithms of what `decays` gives."""
    size = seen.shape[0]
    later, earlier = index(size, 0) > index(size, 1), index(size, 0) < index(size, 1)
    terms = jnp.where(seen, dot(between, later.astype(jnp.float32), (1, 1)), 0)
    return down(terms + jnp.where(earlier, 0, start) + jnp.where(earlier, end, 0)) + total


def index(size: int, axis: int) -> jax.Array:
    """The number of the row (0) or column (1) of every entry (C, C)."""
    return lax.broadcasted_iota(jnp.int32, (size, size), axis)


def column(row: jax.Array) -> jax.Array:
    """(1, C) as (C, 1)."""
    size = row.shape[1]
    return across(jnp.where(index(size, 0) == index(size, 1), row, 0))


def row(column: jax.Array) -> jax.Array:
    """(C, 1) as (1, C)."""
    size = column.shape[0]
    return down(jnp.where(index(size, 0) == index(size, 1), column, 0))


across = partial(jnp.sum, axis=1, keepdims=True)
down = partial(jnp.sum, axis=0, keepdims=True)


def dot(x: jax.Array, y: jax.Array, over: tuple[int, int] = (1, 0)) -> jax.Array:
    """The product of two matrices, summed over an axis of each, in full precision."""
    numbers = (((over[0],), (over[1],)), ((), ()))
    return lax.dot_general(x, y, numbers, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def select(flag: jax.Array | None, x: Any) -> jax.Array:
    """x, zero where the flag is False."""
    return x if flag is None else jnp.where(flag, x, 0)


def nan_where(flag: jax.Array) -> jax.Array:
    """NaN where the flag is True, else 1."""
    return jnp.where(flag, jnp.float32(jnp.nan), jnp.float32(1))


def clear(chunks: Chunks, *refs: Any) -> None:
    """Zero where several heads will `add`."""
    for ref in refs if chunks.ratio > 1 else ():
        ref[...] = jnp.zeros_like(ref)


def add(chunks: Chunks, refs: Any, group: Any, head: Any, cotangents: Any) -> None:
    """Cotangents (C, K) of q, k and v of a head put in their blocks; those of q and k are sums over the group's."""
    for ref, x in zip(refs[:2], cotangents[:2], strict=True):
        at = 0, slice(None), group, slice(None)
        ref[at] = ref[at] + x if chunks.ratio > 1 else x
    refs[2][0, :, head, :] = cotangents[2]


def put(ref: Any, at: Any, x: jax.Array) -> None:
    """An assignment that is an expression."""
    ref[at] = x


def forth(m: Any) -> Any:
    """The order of time."""
    return m
