"""Every nonlinear cell solved in parallel over time, beside `lax.scan`; and what happens where Newton alone fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.analysis.lyapunov import lyapunov_exponent
from jaxseq.benchmark.contenders import by_lax_scan, by_solver, compiled, with_gradients
from jaxseq.benchmark.ops_programs import Compiled, named_device
from jaxseq.benchmark.timing import medians
from jaxseq.cells import CELLS, Cell
from jaxseq.cells.recurrent import FORMS
from jaxseq.solvers import Auto, DampedNewton, Diagonal, Newton, Sequential, Status
from jaxseq.solvers.heads import Heads

BATCH, TIME, WIDTH, REPEATS = 2, 512, 16, 7
HARD_WIDTH = 64  # of the ParaGRU that Newton does not solve: more channels, more hard ones
STEPPING = "sequential"
LADDER: dict[str, Any] = {
    "Newton alone": Newton(on_failure="return"),
    "in windows of 32": Newton(window=32, on_failure="return"),
    "damped": DampedNewton(on_failure="return"),
    "the whole ladder": Newton(),
    "auto": Auto(),
    STEPPING: Sequential(),
}


def demo(cells: str = "") -> Iterator[str]:
    """Lines of two tables, float32: for every cell (those named in `cells`, with commas between; all if empty) in its
    recurrent forms a solve with its gradients against autodiff through `lax.scan`, and three cases that Newton does not
    solve by itself.

    Deviations are the largest, relative to the largest entry. "lax.scan / ours" is the median time of states and
    gradients by `lax.scan` over that of the solve, in turn, on this machine and at this size. See `hard_cases` for the
    second table.

    Raises ValueError for a name that is not in CELLS.
    """
    names = cells.split(",") if cells else list(CELLS)
    for name in names:
        if name not in CELLS:
            raise ValueError(f"cells must be among {', '.join(CELLS)}, got {name!r}")
    yield f"B = {BATCH}, T = {TIME}, d_state = {WIDTH}, float32, {named_device()}: Newton beside lax.scan and autodiff"
    yield (
        f"{'cell':38} {'Jacobian':>9} {'iterations':>10} {'status':>10} {'values':>8} {'gradients':>9}  lax.scan / ours"
    )
    for name in names:
        for label, cell in forms(name):
            yield _row(label, cell)
    yield from hard_cases()


def forms(name: str) -> list[tuple[str, Any]]:
    """A cell by its name, in both forms of its recurrent maps if it has them."""
    kind: Any = CELLS[name]
    if "recurrent" not in {field.name for field in fields(kind)}:
        return [(name, kind(WIDTH, WIDTH))]
    return [(f"{name} {form}", kind(WIDTH, WIDTH, recurrent=form)) for form in FORMS]


def shape_of(structure: Any) -> str:
    """A Jacobian as one reads it: diagonal, 2 x 2 per channel, or dense."""
    if isinstance(structure, Heads):
        return "dense"
    return "diagonal" if type(structure) is Diagonal else f"{structure.size} x {structure.size}"


def _row(label: str, cell: Cell) -> str:
    args = problem(cell)
    runs = {"ours": by_solver(cell, Newton(on_failure="return")), "scan": by_lax_scan(cell)}
    programs = {name: compiled(with_gradients(run), args) for name, run in runs.items()}
    (result, grads), (expected, expected_grads) = (programs[name]() for name in runs)
    times = medians(dict(programs), REPEATS)
    status = Status(int(jnp.max(result.status))).name.lower()
    deviations = deviation(result.h, expected.h), deviation(grads, expected_grads)
    return (
        f"{label:38} {shape_of(cell.structure):>9} {int(jnp.max(result.iterations)):10d} {status:>10} "
        f"{deviations[0]:8.0e} {deviations[1]:9.0e}  {times['scan'] / times['ours']:.2f}"
    )


def hard_cases() -> Iterator[str]:
    """The second table: how often each solver evaluates the cell over all T steps, the guess and stepping included (at
    most, where it goes in windows), and its time over that of stepping, measured in turn.
    """
    columns = f"{'solver':18} {'evaluations':>11} {'time':>6} {'status':>10} {'residual':>9}  exact"
    yield f"\n{f'T = {TIME}':24} {'exponent':>9}  {columns}"
    gru, para_gru = CELLS["gru"](WIDTH, WIDTH), CELLS["para_gru"](HARD_WIDTH, HARD_WIDTH)
    cases = {
        "ParaGRU, a ~ N(0, 2)": (para_gru, 2.0),
        "ParaGRU, a ~ N(0, 8)": (para_gru, 8.0),
        "GRU, R x 12": (gru, 12.0),
    }
    programs = {cell: _programs(cell) for cell in (para_gru, gru)}
    for case, (cell, size) in cases.items():
        args = problem(cell, size)
        exponent = float(jnp.max(jax.jit(partial(lyapunov_exponent, cell))(*args)))
        for row in _ladder({name: replace(program, args=args) for name, program in programs[cell].items()}):
            yield f"{case:24} {exponent:9.3f}  {row}"


def _programs(cell: Cell) -> dict[str, Compiled]:
    return {name: compiled(by_solver(cell, solver), problem(cell)) for name, solver in LADDER.items()}


def _ladder(programs: dict[str, Compiled]) -> Iterator[str]:
    """One row per solver, for one hard case."""
    times = medians(dict(programs), REPEATS)
    for name, program in programs.items():
        found = program()
        status = Status(int(jnp.max(found.status)))
        yield (
            f"{name:18} {_evaluations(found):11d} {times[name] / times[STEPPING]:6.1f} {status.name.lower():>10} "
            f"{float(jnp.max(found.residual)):9.0e}  {int(jnp.min(found.prefix))} of {TIME} steps"
        )


def _evaluations(found: Any) -> int:
    """Of the slowest row: one at the guess, one an iteration, one for stepping after them."""
    stepped = (found.status == Status.FELL_BACK) & (found.iterations > 0)
    return int(jnp.max(1 + found.iterations + stepped))


def problem(cell: Cell, size: float | None = None) -> tuple[Any, Any]:
    """Parameters as initialised and inputs u for x ~ N(0, 1); with `size` ParaGRU's vectors a ~ N(0, size), or the
    matrices r so many times as large.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    params = cell.init(keys[0])
    if size is not None and "a" in params:
        params = {**params, "a": size * jax.random.normal(keys[2], params["a"].shape)}
    elif size is not None:
        params = {**params, "r": size * params["r"]}
    return params, jax.jit(cell.inputs)(params, jax.random.normal(keys[1], (BATCH, TIME, cell.d_input)))


def deviation(value: Any, expected: Any) -> float:
    """The largest deviation of any leaf, relative to the leaf's largest entry; NaN and inf stay what they are."""
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(expected), strict=True)
    return float(np.max([_relative(np.asarray(a), np.asarray(b)) for a, b in pairs]))


def _relative(value: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(value - expected)) / max(float(np.max(np.abs(expected))), 1e-30))
