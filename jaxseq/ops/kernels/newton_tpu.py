"""A channelwise recurrence by Newton's method on windows of time that stay in vector registers, on TPU (Mosaic).

    F_t = step(h_{t-1}, u_t) - h_t,    δ_t = J_t δ_{t-1} + F_t,    h <- h + δ

(Lim et al. 2023, arXiv 2309.12252, in delta form.) Where there are few channels a kernel that steps leaves most of a
register of 8 x 128 numbers empty, and waits at every step for the chain of its operations. Here the eight sublanes are
eight stretches of a window of W = 8 M steps: register j of M holds the steps j, M + j, ..., 7 M + j. So h_{t-1} of
register j is register j - 1, and a linear recurrence is M multiply-adds in all stretches at once, three rounds that
compose the stretches, and M more to add what comes from the stretch before.

Every window starts from the exact last state of the one before, and its iterations from step(0, u_t): of ParaGRU with
weights of deviation 0.5 they are 4, from the last state repeated 5. A window that is not solved is stepped through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl  # the only way to write a kernel
from jax.experimental.pallas import tpu as pltpu
from jax.extend.core import jaxpr_as_fun

from jaxseq.ops.algebra import ENTRIES
from jaxseq.ops.channelwise import RESET, SKIP, Arrays, Program
from jaxseq.ops.kernels.layout_tpu import LANES, STEPS, VMEM

TILE = STEPS, LANES
SOLVED, OPEN, NOT_FINITE = map(np.float32, range(3))  # what becomes of a window
Programs = tuple[Program, Program]  # the step, and what `linearise` makes of it
Entries = Any  # of the Jacobian, K tuples of K arrays: [i][j] = dh_i / dh_j


class Stats(NamedTuple):
    """Of every row and channel (B, D): iterations of the window that took most, int32, the same for 128 channels; the
    largest final residual, float32; windows stepped through, int32, in the first of 128 channels and 0 in the others.
    """

    iterations: Any
    residual: Any
    stepped: Any


class Options(NamedTuple):
    """The steps of a window, a multiple of 8; when it is solved, and after how many iterations it is given up."""

    window: int
    tolerance: float
    max_iterations: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What is static: the step, the step with its Jacobian, and how time is cut, into blocks of so many windows."""

    program: Program
    linearised: Program
    options: Options
    time: int
    width: int
    windows: int

    @property
    def stride(self) -> int:
        """M, the registers of a window and the steps of a stretch."""
        return self.options.window // STEPS

    @property
    def length(self) -> int:
        """Steps of a block."""
        return self.windows * self.options.window


def forward(
    programs: Programs, options: Options, tables: Arrays, u: Arrays, h0: Arrays, flags: Any, interpret: bool
) -> tuple[list[jax.Array], Stats]:
    """All states, one (B, T, D) per array of h0 (B, D), from tables (D,), u (B, T, D) and flags (B, T) int32."""
    (batch, time, width), window = u[0].shape, options.window
    states, arrays = len(h0), len(u) + len(h0) + (flags is not None)
    total, most = pl.cdiv(time, window), max(1, VMEM // (2 * arrays * window * LANES * 4))
    windows = pl.cdiv(total, pl.cdiv(total, most))  # as few blocks as fit, of about equal length
    plan = Plan(*programs, options, time, width, windows)
    block = 1, windows, window, LANES
    steps, shared = (pl.BlockSpec(block, lambda b, g, t, one=one: (b, t, 0, 0 if one else g)) for one in (False, True))
    row = pl.BlockSpec((1, 1, LANES), lambda b, g, t: (b, 0, g))
    table = pl.BlockSpec((1, LANES), lambda b, g, t: (0, g))
    wide = None if flags is None else _cut(jnp.broadcast_to(flags[..., None], (batch, time, LANES)), window)
    inputs = [_cut(x.astype(jnp.float32), window) for x in u]
    whole = jax.ShapeDtypeStruct(inputs[0].shape, jnp.float32)
    rows = partial(jax.ShapeDtypeStruct, (batch, 1, whole.shape[-1]))
    h, stats = pl.pallas_call(
        partial(_block, plan),
        grid=(batch, pl.cdiv(width, LANES), pl.cdiv(total, windows)),
        in_specs=[[table] * len(tables), [steps] * len(u), [row] * states, None if flags is None else shared],
        out_specs=[[steps] * states, Stats(row, row, row)],
        out_shape=[[whole] * states, Stats(rows(jnp.int32), rows(jnp.float32), rows(jnp.int32))],
        scratch_shapes=[[pltpu.VMEM(TILE, jnp.float32)] * states],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="newton_forward",
    )([_pad(x[None]) for x in tables], inputs, [_pad(x[:, None]) for x in h0], wide)
    h = [x.reshape(batch, -1, whole.shape[-1])[:, :time, :width] for x in h]
    return h, jax.tree.map(lambda x: x[:, 0, :width], stats)


def _pad(x: jax.Array) -> jax.Array:
    """Channels padded to a multiple of 128."""
    return jnp.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, -x.shape[-1] % LANES)])


def _cut(x: jax.Array, window: int) -> jax.Array:
    """(B, T, D) as (B, T / W, W, D): the same bytes where nothing is padded, as 8 divides W."""
    x = _pad(jnp.pad(x, ((0, 0), (0, -x.shape[1] % window), (0, 0))))
    return x.reshape(x.shape[0], -1, window, x.shape[-1])


def linearise(program: Program) -> Program:
    """The program whose `forward` gives the K states and, row by row, the K x K entries of their Jacobian."""
    step, (tables, states, _) = jaxpr_as_fun(program.step), program.sizes

    def run(*args: jax.Array) -> list[jax.Array]:
        def column(j: int) -> tuple[list[jax.Array], list[jax.Array]]:
            alone = lambda x: step(*args[:j], x, *args[j + 1 :])  # noqa: E731
            return jax.jvp(alone, (args[j],), (jnp.ones_like(args[j]),))

        after, columns = zip(*(column(tables + j) for j in range(states)), strict=True)
        return [*after[0], *(column[i] for i in range(states) for column in columns)]

    return replace(program, step=jax.make_jaxpr(run)(*program.step.in_avals))


class Here(NamedTuple):
    """A program's block: what it reads and writes, its first step, and its channels not over the end (None: all)."""

    plan: Plan
    tables: Arrays
    u: Any
    flags: Any
    h: Any
    stats: Stats
    begins: Any
    inside: jax.Array | None


def _block(plan: Plan, tables: Any, u: Any, h0: Any, flags: Any, h: Any, stats: Any, carry: Any) -> None:
    """The windows of one row, 128 channels and one block of time."""
    group, block = pl.program_id(1), pl.program_id(2)
    pl.when(block == 0)(partial(_start, h0, stats, carry))
    channel = group * LANES + lax.broadcasted_iota(jnp.int32, TILE, 1)
    inside = channel < plan.width if plan.width % LANES else None
    wide = [jnp.broadcast_to(x[...], TILE) for x in tables]
    here = Here(plan, wide, u, flags, h, stats, block * plan.length, inside)
    last = lax.fori_loop(0, plan.windows, partial(_window, here), [x[...] for x in carry])
    for ref, x in zip(carry, last, strict=True):
        ref[...] = x


def _start(h0: Any, stats: Stats, carry: Any) -> None:
    for ref, x in zip((*carry, *stats), (*h0, *map(jnp.zeros_like, stats)), strict=True):
        ref[...] = jnp.broadcast_to(x[0], ref.shape)


def _window(here: Here, index: Any, carry: Arrays) -> list[jax.Array]:
    """Solves a window or steps through it; `carry` and the result are its first and last state in every sublane."""
    plan, index, stretch = here.plan, jnp.int32(index), lax.broadcasted_iota(jnp.int32, TILE, 0)
    registers = [(index, pl.ds(j, STEPS, stride=plan.stride)) for j in range(plan.stride)]
    times = [index * plan.options.window + plan.stride * stretch + j for j in range(plan.stride)]
    given = [(_read(here.u, at), _flag(here, at, time)) for at, time in zip(registers, times, strict=True)]

    def iterate(loop):
        _, states, count, _, _ = loop
        force, jac = _evaluate(here, given, stretch, states, carry)
        delta = _recurrence(jac, force)
        moved = [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(states, delta, strict=True)]
        return states, moved, count + 1, *_judge(here, force, states)

    def again(loop):
        return (loop[3] == OPEN) & (loop[2] < plan.options.max_iterations)

    zero = [jnp.zeros(TILE, jnp.float32)] * len(carry)
    guess = [plan.program.advance(here.tables, zero, inputs, flag) for inputs, flag in given]
    first = guess, guess, jnp.int32(-1), jnp.asarray(OPEN), jnp.zeros(TILE, jnp.float32)
    states, _, count, ended, residual = lax.while_loop(again, iterate, first)
    for at, state in zip(registers, states, strict=True):
        _write(here.h, at, state)
    here.stats.iterations[...] = jnp.maximum(here.stats.iterations[...], count)
    pl.when(ended == SOLVED)(lambda: _record(here.stats, jnp.max(residual, axis=0, keepdims=True)))
    pl.when(ended != SOLVED)(partial(_step_through, here, index, carry))
    return [jnp.broadcast_to(x, TILE) for x in _read(here.h, (index, pl.ds(plan.options.window - 1, 1)))]


def _evaluate(here: Here, given: Any, stretch: Any, states: Any, carry: Arrays) -> tuple[list[Arrays], list[Entries]]:
    """F and J of every register, whose inputs and flags are `given`."""
    before = [lax.select(stretch == 0, x, pltpu.roll(y, 1, 0)) for x, y in zip(carry, states[-1], strict=True)]
    force, jac = [], []
    for j, (inputs, flag) in enumerate(given):
        after, entries = _linear_step(here, before, inputs, flag)
        # δ before the window is zero: with that, what the rolls carry round its end is multiplied by zero.
        entries = entries if j else _where(stretch == 0, 0, entries)
        force.append(tuple(x - y for x, y in zip(after, states[j], strict=True)))
        jac.append(entries)
        before = states[j]
    return force, jac


def _linear_step(here: Here, h: Arrays, u: Arrays, flag: Any) -> tuple[Arrays, Entries]:
    """The step and its Jacobian, for a step with that flag."""
    count = len(h)
    h = h if flag is None else _where(flag & RESET != 0, 0, h)
    flat = here.plan.linearised.forward(here.tables, h, u)
    after: Any = flat[:count]
    rows: Entries = tuple(tuple(flat[count * i + count :][:count]) for i in range(count))
    if flag is None:
        return after, rows
    skip = flag & SKIP != 0
    after, rows = jax.tree.map(partial(lax.select, skip), (list(h), ENTRIES.identity(rows)), (after, rows))
    return after, _where(flag & RESET != 0, 0, rows)


def _recurrence(jac: Sequence[Entries], force: Sequence[Any]) -> list[Any]:
    """δ_t = J_t δ_{t-1} + F_t over the window, δ = 0 before it."""
    products: list[Entries] = [jac[0]]
    sums: list[Any] = [force[0]]
    for entries, b in zip(jac[1:], force[1:], strict=True):
        sums.append(ENTRIES.add(ENTRIES.apply(entries, sums[-1]), b))
        products.append(ENTRIES.compose(entries, products[-1]))
    product, total = products[-1], sums[-1]
    for shift in (1, 2, 4):
        total = ENTRIES.add(ENTRIES.apply(product, _roll(total, shift)), total)
        product = ENTRIES.compose(product, _roll(product, shift))
    entering = _roll(total, 1)
    return [ENTRIES.add(ENTRIES.apply(p, entering), b) for p, b in zip(products, sums, strict=True)]


def _judge(here: Here, force: Sequence[Arrays], states: Sequence[Arrays]) -> tuple[jax.Array, jax.Array]:
    """What becomes of the window, and the largest residual of every stretch and channel."""
    errors = [jnp.abs(x) for b in force for x in b]
    worst = reduce(jnp.maximum, errors)
    size = reduce(jnp.maximum, [jnp.abs(x) for state in states for x in state], jnp.ones(TILE, jnp.float32))
    verdict = jnp.where(worst <= here.plan.options.tolerance * size, SOLVED, OPEN)
    # A maximum may drop NaN, a sum never does.
    verdict = jnp.where(reduce(jnp.add, errors) < jnp.inf, verdict, NOT_FINITE)
    verdict = verdict if here.inside is None else jnp.where(here.inside, verdict, SOLVED)
    return jnp.max(verdict), worst


def _step_through(here: Here, index: Any, carry: Arrays) -> None:
    """The window one step after another, as `cell_scan` does; with a residual of infinity where it is not finite."""
    tables = [x[:1] for x in here.tables]

    def one(i, loop):
        state, total = loop
        at, time = (index, pl.ds(i, 1)), jnp.full((1, LANES), index * here.plan.options.window + i, jnp.int32)
        state = here.plan.program.advance(tables, state, _read(here.u, at), _flag(here, at, time))
        _write(here.h, at, state)
        return state, reduce(jnp.add, map(jnp.abs, state), total)

    first = [x[:1] for x in carry], jnp.zeros((1, LANES), jnp.float32)
    _, total = lax.fori_loop(0, here.plan.options.window, one, first)
    _record(here.stats, jnp.where(total < jnp.inf, jnp.float32(0), jnp.float32(jnp.inf)))
    counter = lax.broadcasted_iota(jnp.int32, (1, LANES), 1) == 0
    here.stats.stepped[...] += counter.astype(jnp.int32)[None]


def _record(stats: Stats, residual: jax.Array) -> None:
    stats.residual[...] = jnp.maximum(stats.residual[...], residual[None])


def _flag(here: Here, at: Any, time: jax.Array) -> jax.Array | None:
    """The flags of the steps at these places of a block; steps over the end of the sequence are skipped."""
    given = None if here.flags is None else here.flags[jnp.int32(0), *at, :]
    if here.plan.time % here.plan.length == 0:
        return given
    over = jnp.where(here.begins + time < here.plan.time, jnp.int32(0), jnp.int32(SKIP))
    return over if given is None else lax.select(over == 0, given, over)


def _where(flag: jax.Array, value: float, tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(flag, jnp.asarray(value, x.dtype), x), tree)


def _roll(tree: Any, shift: int) -> Any:
    """What the stretch `shift` before has."""
    return jax.tree.map(lambda x: pltpu.roll(x, shift, 0), tree)


def _read(refs: Any, at: Any) -> list[jax.Array]:
    return [ref[jnp.int32(0), *at, :] for ref in refs]


def _write(refs: Any, at: Any, arrays: Arrays) -> None:
    for ref, x in zip(refs, arrays, strict=True):
        ref[jnp.int32(0), *at, :] = x
