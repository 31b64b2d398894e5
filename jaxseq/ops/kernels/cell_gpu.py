"""A channelwise recurrence in one fused pass on GPU (Triton): a thread holds the states of one channel of one row.

Forward: u is read once and h written once. Backward, from the last step to the first, the gates are computed again and
the step's own vector-Jacobian product carries λ, as in `cell_tpu`. The inputs of the next few steps are asked for
before the present ones are used, so that the memory's latency hides behind the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl  # the only way to write a kernel
from jax.experimental.pallas import triton as plgpu

from jaxseq.ops.channelwise import Arrays, Program

LANES = 128  # channels of a program: one for every thread of four warps
AHEAD = 8  # steps whose inputs are in flight together
TABLE = pl.BlockSpec((LANES,), lambda b, d: (d,))
STATE = pl.BlockSpec((None, LANES), lambda b, d: (b, d))
Flags = jax.Array | None


def forward(
    program: Program, tables: Arrays, u: Arrays, h0: Arrays, flags: Flags, *, interpret: bool = False
) -> list[jax.Array]:
    """All states, one (B, T, D) per array of h0 (B, D), from tables (D,), u (B, T, D) and flags (B, T) int32."""
    batch, time, width = u[0].shape
    inputs = tables, u, h0, flags
    specs = [TABLE] * len(tables), [_steps(time)] * len(u), [STATE] * len(h0), _flags(flags)
    shapes = [jax.ShapeDtypeStruct(u[0].shape, jnp.float32)] * len(h0)
    kernel = partial(_forward, program, time, width)
    return _call(kernel, "cell_forward", (batch, width), inputs, specs, shapes, [_steps(time)] * len(h0), interpret)


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
) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """The cotangents of (tables, u, h0), given the states h and their cotangents g, (B, T, D) each; those of the tables
    row by row, (B, D).
    """
    batch, time, width = u[0].shape
    steps, state = _steps(time), jax.ShapeDtypeStruct((batch, width), jnp.float32)
    read = [x for x, kept in zip(u, program.reads, strict=True) if kept]
    inputs = tables, read, h0, flags, h, g
    specs = (
        *([TABLE] * len(tables), [steps] * len(read), [STATE] * len(h0), _flags(flags)),
        *([steps] * len(h), [steps] * len(g)),
    )
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in u], [state] * len(h0), [state] * len(tables)
    result_specs = [steps] * len(u), [STATE] * len(h0), [STATE] * len(tables)
    kernel = partial(_backward, program, time, width)
    du, dh0, sums = _call(kernel, "cell_backward", (batch, width), inputs, specs, shapes, result_specs, interpret)
    return sums, du, dh0


def _forward(program: Program, time: int, width: int, inputs: Any, h: Any) -> None:
    tables, u, h0, flags = inputs
    inside = _inside(width)
    tables = _load(tables, inside)

    def load(t):
        return _load([x.at[t] for x in u], inside), None if flags is None else flags[t]

    def step(t, state, given):
        state = program.advance(tables, state, *given)
        _store([x.at[t] for x in h], state, inside)
        return state

    _march(time, load, step, _load(h0, inside))


def _backward(program: Program, time: int, width: int, inputs: Any, outputs: Any) -> None:
    (tables, u, h0, flags, h, g), (du, dh0, sums) = inputs, outputs
    inside = _inside(width)
    tables, first = _load(tables, inside), _load(h0, inside)

    def load(i):
        t = time - 1 - i
        before = _load([x.at[jnp.maximum(t - 1, 0)] for x in h], inside)
        before = [lax.select(t == 0, x, y) for x, y in zip(first, before, strict=True)]
        read = iter(_load([x.at[t] for x in u], inside))
        inputs = [next(read) if kept else jnp.zeros_like(first[0]) for kept in program.reads]
        return before, inputs, _load([x.at[t] for x in g], inside), None if flags is None else flags[t]

    def step(i, carried, given):
        (mu, total), (before, inputs, cotangents, flag) = carried, given
        dtables, mu, dinputs = program.retreat(tables, before, inputs, mu, cotangents, flag)
        _store([x.at[time - 1 - i] for x in du], dinputs, inside)
        return mu, [x + y for x, y in zip(total, dtables, strict=True)]

    zeros = [jnp.zeros_like(x) for x in first], [jnp.zeros_like(x) for x in tables]
    mu, total = _march(time, load, step, zeros)
    _store([*dh0, *sums], [*mu, *total], inside)


def _march(time: int, load: Callable[[Any], Any], step: Callable[..., Any], state: Any) -> Any:
    """step(i, state, load(i)) for i = 0 .. time - 1, the loads of the next steps started before these are used."""

    def ahead(first):
        return [load(jnp.minimum(first + s, time - 1)) for s in range(AHEAD)]

    def body(k, carried):
        state, given = carried
        following = ahead((k + 1) * AHEAD)
        for s in range(AHEAD):
            state = step(k * AHEAD + s, state, given[s])
        return state, following

    state, given = lax.fori_loop(0, time // AHEAD, body, (state, ahead(jnp.int32(0))))
    for s in range(time % AHEAD):
        state = step(jnp.int32(time - time % AHEAD + s), state, given[s])
    return state


def _inside(width: int) -> jax.Array:
    """Which of the program's channels exist."""
    return pl.program_id(1) * LANES + lax.iota(jnp.int32, LANES) < width


def _load(refs: Any, inside: jax.Array) -> list[jax.Array]:
    return [plgpu.load(ref, mask=inside, other=0).astype(jnp.float32) for ref in refs]


def _store(refs: Any, arrays: Arrays, inside: jax.Array) -> None:
    for ref, x in zip(refs, arrays, strict=True):
        plgpu.store(ref, x.astype(ref.dtype), mask=inside)


def _steps(time: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, time, LANES), lambda b, d: (b, 0, d))


def _flags(flags: Flags) -> pl.BlockSpec | None:
    return None if flags is None else pl.BlockSpec((None, flags.shape[1]), lambda b, d: (b, 0))


def _call(
    kernel: Any,
    name: str,
    size: tuple[int, int],
    inputs: Any,
    specs: Any,
    shapes: Any,
    result_specs: Any,
    interpret: bool,
) -> Any:
    return pl.pallas_call(
        kernel,
        grid=(size[0], pl.cdiv(size[1], LANES)),
        in_specs=[specs],
        out_specs=[result_specs],
        out_shape=[shapes],
        compiler_params=plgpu.CompilerParams(num_warps=LANES // 32),
        interpret=interpret,
        name=name,
    )(inputs)[0]
