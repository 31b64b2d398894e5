"""ParaGRU's states by every solver, against autodiff through `lax.scan` and against a single linear scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.benchmark.contenders import Contender, Result, by_lax_scan, by_solver, compiled, with_gradients
from jaxseq.benchmark.ops_programs import PASSES, Compiled, in_turn, named_device
from jaxseq.cells.paragru import ParaGRU
from jaxseq.ops import linear_scan
from jaxseq.solvers import Auto, Newton, Sequential

SHAPES = ((1, 16, 16384), (1, 64, 16384), (1, 256, 4096), (8, 256, 512), (8, 256, 2048))  # (B, D, T)
BUDGET = {"forward": 4.0, "forward_backward": 8.0}  # seconds for all contenders of a shape, in turn
BASELINE = "lax_scan unroll=1"
SOLVERS: dict[str, Any] = {
    "auto": Auto(),
    "sequential": Sequential(),
    "newton sequential": Newton(method="sequential"),
    "newton associative": Newton(method="associative"),
    "newton chunked": Newton(method="chunked"),
    "newton window=256": Newton(window=256),
}


def solvers(shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> Iterator[dict[str, Any]]:
    """One row per shape (B, D, T) and contender, float32, ParaGRU as it is initialised, with the inputs u given.

    "forward" is the states and their certificate but for `growth`, "forward_backward" the gradients of the parameters
    and u besides. `_over_best` is
    the time over that of the fastest that computes the same, `_over_lax_scan` over that of autodiff through `lax.scan`
    with unroll = 1, both measured in the same rounds; "linear_scan" is one pass over a linear recurrence of that shape,
    which no solver can beat for long. Besides: milliseconds of that device and day, iterations, the residual, the
    largest deviation from `lax.scan`, seconds of compilation, and bytes of arguments, results and temporaries.
    """
    for shape in shapes:
        yield from measure(shape)


def measure(shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """The rows of one shape."""
    args, contenders = _problem(*shape), _contenders(shape[1])
    wrap = {"forward": lambda run: run, "forward_backward": with_gradients}
    programs = {name: {key: compiled(wrap[name](f), args) for key, f in contenders.items()} for name in PASSES}
    times = {name: in_turn(programs[name], BUDGET[name]) for name in PASSES}
    expected = programs["forward"][BASELINE]().h
    rows = []
    for key in contenders:
        row = {"benchmark": "solvers", "shape": list(shape), "solver": key, "device": named_device()}
        for name in PASSES:
            row |= _ratios(name, times[name], key) | _costs(name, programs[name][key], times[name][key])
        rows.append(row | ({} if key == "linear_scan" else _outcome(programs["forward"][key](), expected)))
    return rows


def _problem(batch: int, width: int, length: int) -> tuple[Any, Any]:
    keys = jax.random.split(jax.random.key(0))
    cell = ParaGRU(width, width)
    params = cell.init(keys[0])
    return params, jax.jit(cell.inputs)(params, jax.random.normal(keys[1], (batch, length, width)))


def _contenders(width: int) -> dict[str, Contender]:
    cell = ParaGRU(width, width)
    scans = {f"lax_scan unroll={unroll}": by_lax_scan(cell, unroll) for unroll in (1, 8)}
    return {**{name: by_solver(cell, solver) for name, solver in SOLVERS.items()}, **scans, "linear_scan": _linear}


def _linear(_: Any, u: Any) -> Result:
    """u's arrays stand for decay and input; what they hold does not matter to the time."""
    return Result(linear_scan(0.1 * u[0], u[2]))


def _ratios(name: str, times: dict[str, float], key: str) -> dict[str, float]:
    best = min(passed for other, passed in times.items() if other != "linear_scan")
    return {
        f"{name}_over_best": round(times[key] / best, 2),
        f"{name}_over_lax_scan": round(times[key] / times[BASELINE], 2),
    }


def _costs(name: str, program: Compiled, passed: float) -> dict[str, float]:
    memory = program.program.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return {
        f"{name}_ms": round(1e3 * passed, 3),
        f"{name}_compile_seconds": round(program.seconds, 2),
        f"{name}_peak_bytes": held,
    }


def _outcome(result: Result, expected: jax.Array) -> dict[str, Any]:
    return {
        "iterations": int(jnp.max(result.iterations)),
        "residual": float(f"{float(jnp.max(result.residual)):.2g}"),
        "deviation": float(f"{float(jnp.max(jnp.abs(result.h - expected))):.2g}"),
    }
