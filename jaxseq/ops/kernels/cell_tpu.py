"""A channelwise recurrence in one fused pass on TPU (Mosaic).

Forward: u is read once and h written once; the state stays in registers and VMEM. Backward, from the last step to the
first: the gates are computed again from u and h, and

    λ_t = g_t + (∂h_{t+1}/∂h_t)ᵀ λ_{t+1},    du_t = (∂h_t/∂u_t)ᵀ λ_t,    dtables = Σ_t (∂h_t/∂tables)ᵀ λ_t

come from the vector-Jacobian product of the step itself, evaluated in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl  # the only way to write a kernel
from jax.experimental.pallas import tpu as pltpu

from jaxseq.ops.channelwise import Arrays, Program
from jaxseq.ops.kernels.layout_tpu import LANES, STEPS, Block, Layout, make_layout

Flags = jax.Array | None


def forward(
    program: Program,
    tables: Arrays,
    u: Arrays,
    h0: Arrays,
    flags: Flags,
    *,
    interpret: bool = False,
    unroll: bool | None = None,
) -> list[jax.Array]:
    """All states, one (B, T, D) per array of h0 (B, D), from tables (D,), u (B, T, D) and flags (B, T) int32.

    Eight steps are unrolled, which takes long to compile where the kernel is interpreted: not there unless asked.
    """
    u = [x.astype(jnp.float32) for x in u]
    layout = make_layout(*u[0].shape, arrays=len(u) + len(h0))
    inputs = layout.tables(tables), layout.steps(u, _forth), layout.state(h0), layout.flags(flags, _forth)
    results = layout.step_results(len(h0), _forth)
    kernel = partial(_forward, program, layout, not interpret if unroll is None else unroll)
    h = _call(kernel, "cell_forward", layout, inputs, results, len(h0), interpret)
    return [layout.whole(x) for x in h]


def backward(
    program: Program,
    tables: Arrays,
    u: Arrays,
    h0: Arrays,
    flags: Flags,
    h: Arrays,
    g: Arrays,
    *,
    interpret: bool = False,
    unroll: bool | None = None,
) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """The cotangents of (tables, u, h0), given the states h and their cotangents g, (B, T, D) each; those of the tables
    row by row, (B, D).
    """
    layout = make_layout(*u[0].shape, arrays=sum(program.reads) + len(u) + 2 * len(h0))
    back = lambda t: layout.grid[2] - 1 - t  # noqa: E731
    read = [x.astype(jnp.float32) for x, kept in zip(u, program.reads, strict=True) if kept]
    inputs = (
        *(layout.tables(tables), layout.steps(read, back), layout.state(h0), layout.flags(flags, back)),
        *(layout.steps(h, back), layout.edges(h, back), layout.steps(g, back)),
    )
    results = layout.step_results(len(u), back), layout.state_results(len(h0)), layout.state_results(len(tables))
    kernel = partial(_backward, program, layout, not interpret if unroll is None else unroll)
    du, dh0, sums = _call(kernel, "cell_backward", layout, inputs, results, len(h0), interpret)
    du = [layout.whole(x).astype(y.dtype) for x, y in zip(du, u, strict=True)]
    return [layout.row(x) for x in sums], du, [layout.row(x) for x in dh0]


def _forward(program: Program, layout: Layout, unroll: bool, inputs: Any, h: Any, carry: Any) -> None:
    tables, u, h0, flags = inputs
    pl.when(pl.program_id(2) == 0)(lambda: _copy(h0, carry))

    def step(tile, k, s, state, table):
        at = layout.at(tile, k, s)
        state = program.advance(table, state, _read(u, at), _flag(flags, tile, k, s))
        _write(h, at, state)
        return state

    tables = [_read(tables, tile.channels) for tile in layout.tiles]
    states = [_read(carry, tile.state) for tile in layout.tiles]
    states = _march(layout, step, False, unroll, states, tables)
    for tile, state in zip(layout.tiles, states, strict=True):
        _write(carry, tile.state, state)


def _backward(program: Program, layout: Layout, unroll: bool, inputs: Any, outputs: Any, carry: Any) -> None:
    (tables, u, h0, flags, h, edges, g), (du, dh0, sums) = inputs, outputs
    block = pl.num_programs(2) - 1 - pl.program_id(2)
    pl.when(pl.program_id(2) == 0)(lambda: _clear([*carry, *sums]))

    def step(tile, k, s, carried, given):
        (mu, total), (table, first), at = carried, given, layout.at(tile, k, s)
        before = _read(h, layout.at(tile, *_step_before(k, s)))
        before = before if isinstance(s, int) and s else _first(STEPS * k + s, first, before)
        read = iter(_read(u, at))
        inputs = [next(read) if kept else jnp.zeros_like(before[0]) for kept in program.reads]
        dtable, mu, dinputs = program.retreat(table, before, inputs, mu, _read(g, at), _flag(flags, tile, k, s))
        _write(du, at, dinputs)
        return mu, [x + y for x, y in zip(total, dtable, strict=True)]

    given = [(_read(tables, x.channels), _before(layout, x, block, h0, edges)) for x in layout.tiles]
    carried = [(_read(carry, tile.state), _read(sums, tile.state)) for tile in layout.tiles]
    carried = _march(layout, step, True, unroll, carried, given)
    for tile, (mu, total) in zip(layout.tiles, carried, strict=True):
        _write(carry, tile.state, mu)
        _write(sums, tile.state, total)
    pl.when(block == 0)(lambda: _copy(carry, dh0))


def _march(layout: Layout, step: Callable[..., Any], back: bool, unroll: bool, carried: Any, given: Any) -> Any:
    """step(tile, k, s, carried, given) for the steps 8 k + s of a block, from the last to the first if `back`, with all
    tiles side by side: while one waits for its transcendentals the others go on.
    """

    def one(k, s, carried):
        s = STEPS - 1 - s if back else s
        return [step(tile, k, s, *x) for tile, *x in zip(layout.tiles, carried, given, strict=True)]

    def eight(i, carried):
        k = layout.blocks - 1 - i if back else i
        if not unroll:
            return lax.fori_loop(0, STEPS, partial(one, k), carried)
        for s in range(STEPS):
            carried = one(k, s, carried)
        return carried

    return lax.fori_loop(0, layout.blocks, eight, carried)


def _step_before(k: Any, s: Any) -> tuple[Any, Any]:
    """(k, s) of the step before 8 k + s; of the block's first step it itself."""
    if isinstance(s, int):
        return (k, s - 1) if s else (jnp.maximum(k - 1, 0), STEPS - 1)
    t = jnp.maximum(STEPS * k + s - 1, 0)
    return lax.div(t, STEPS), lax.rem(t, STEPS)


def _before(layout: Layout, tile: Any, block: Any, h0: Any, edges: Any) -> list[jax.Array]:
    """The state before a block: h0, or the last of the eight steps before it."""
    return _first(block, _read(h0, tile.state), _read(edges, layout.at(tile, 0, STEPS - 1)))


def _call(kernel: Any, name: str, layout: Layout, inputs: Any, results: Any, states: int, interpret: bool) -> Any:
    arrays, specs, shapes, result_specs = (
        jax.tree.map(lambda x, i=i: x[i], blocks, is_leaf=lambda x: isinstance(x, Block))
        for blocks, i in ((inputs, 0), (inputs, 1), (results, 0), (results, 1))
    )
    return pl.pallas_call(
        kernel,
        grid=layout.grid,
        in_specs=[specs],
        out_specs=[result_specs],
        out_shape=[shapes],
        scratch_shapes=[[pltpu.VMEM((layout.rows, layout.groups, LANES), jnp.float32)] * states],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name=name,
    )(arrays)[0]


def _forth(t: Any) -> Any:
    return t


def _flag(flags: Any, tile: Any, k: Any, s: int) -> Any:
    return None if flags is None else flags[tile.row, 0, 0, k * STEPS + s]


def _first(index: Any, first: Arrays, otherwise: Arrays) -> list[jax.Array]:
    return [lax.select(index == 0, x, y) for x, y in zip(first, otherwise, strict=True)]


def _read(refs: Any, at: Any) -> list[jax.Array]:
    return [ref[at] for ref in refs]


def _write(refs: Any, at: Any, arrays: Arrays) -> None:
    for ref, x in zip(refs, arrays, strict=True):
        ref[at] = x


def _copy(sources: Any, targets: Any) -> None:
    for source, target in zip(sources, targets, strict=True):
        target[...] = source[...]


def _clear(refs: Any) -> None:
    for ref in refs:
        ref[...] = jnp.zeros_like(ref)
