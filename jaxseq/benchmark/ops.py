"""Every op by every method, against its peers, the memory's speed and the reference: what `method="auto"` rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.benchmark.ops_problems import ROWS, STEPS, Problem, problems
from jaxseq.benchmark.ops_programs import PASSES, both_ways, compile_pass, in_turn, methods_of, named_device
from jaxseq.ops.choice import MADE_OF, METHODS, choose

BUDGET = {"forward": 1.5, "forward_backward": 3.0}  # seconds for all methods and peers of a problem, in turn
DEVIATION = f"deviation_over_{ROWS}_row_of_{STEPS}_steps"


def ops(op: str = "", plot: str = "") -> Iterator[dict[str, Any]]:
    """One row per op, shape and method: times over those of the fastest method (`_over_best`), times of the peers over
    this method's, measured in the same rounds (`_over_this`), seconds of compilation (without a persistent cache),
    arguments, results and temporaries over arguments and results (`peak_over_io`), bytes that the compiler counts
    over the same (where there is no loop, which it would count once), and the largest deviations of y and of the
    gradients from the reference in float64, relative to the largest entry, over the first steps of the first row.

    "forward_backward" is y and the gradients of all inputs. Milliseconds belong to their device and their day. After
    the rows of a shape comes one with the line for `ops/measured.py`.

    Args:
      op: the only one to measure, if given.
      plot: a PNG of linear_scan's times against T and against channels, drawn instead.
    """
    if plot:
        # matplotlib is an extra
        from jaxseq.benchmark.ops_plot import draw

        yield from draw(plot)
        return
    for problem in problems(op):
        rows = measure(problem)
        yield from rows
        if problem.op in METHODS:
            yield {"benchmark": "ops", "measured": as_line(problem, rows)}


def measure(problem: Problem) -> list[dict[str, Any]]:
    """The rows of one problem."""
    programs = {name: compile_pass(problem, name) for name in PASSES}
    times = {name: in_turn(programs[name], BUDGET[name]) for name in PASSES}
    expected, rows = _expected(problem), []
    for method in methods_of(problem):
        row = {**_head(problem), "method": method, "auto": method == _chosen(problem)}
        for name in PASSES:
            row |= _over_best(name, times[name], method, methods_of(problem))
        for name in PASSES:
            row |= _beside_peers(name, times[name], method, tuple(problem.peers()))
        for name in PASSES:
            row |= _costs(name, programs[name][method], times[name][method])
        rows.append(row | deviation(problem, method, expected))
    return rows


def deviation(problem: Problem, method: str, expected: Any) -> dict[str, float]:
    """The largest deviations from the reference in float64, relative to the largest entry of each array."""
    value = _run(partial(problem.run, method), problem.part())
    worst = [_largest(jax.tree.map(_relative, a, b)) for a, b in zip(value, expected, strict=True)]
    return {DEVIATION: worst[0], f"gradient_{DEVIATION}": worst[1]}


def as_line(problem: Problem, rows: list[dict[str, Any]]) -> str:
    """The row of the table of measurements, as Python."""
    ratios = {row["method"]: row["forward_backward_over_best"] for row in rows}
    command = "python launch/benchmark.py ops"
    what = (problem.op, problem.variant, jax.default_backend(), problem.shape, problem.dtype, ratios)
    return f"Row{(*what, named_device(), date.today().isoformat(), command)!r},"


def _chosen(problem: Problem) -> str:
    op = MADE_OF.get(problem.op, problem.op)
    return choose(op, problem.shape, jax.default_backend(), METHODS[op])


def _expected(problem: Problem) -> Any:
    part = jax.device_get(jax.tree.map(lambda x: x.astype(jnp.result_type(x, jnp.float32)), problem.part()))
    with jax.enable_x64(True):
        return _run(problem.exact, jax.tree.map(lambda x: jnp.asarray(x, np.result_type(x, np.float64)), part))


def _run(function: Callable[[Any], jax.Array], inputs: Any) -> Any:
    both, args = both_ways(function, inputs)
    return jax.device_get(jax.jit(both)(*args))


def _head(problem: Problem) -> dict[str, Any]:
    row = {"benchmark": "ops", "op": problem.op, "variant": problem.variant, "shape": list(problem.shape)}
    return {**row, "dtype": problem.dtype, "device": named_device()}


def _over_best(name: str, times: dict[str, float], method: str, methods: list[str]) -> dict[str, float]:
    return {f"{name}_over_best": round(times[method] / min(times[other] for other in methods), 2)}


def _beside_peers(name: str, times: dict[str, float], method: str, peers: tuple[str, ...]) -> dict[str, float]:
    ending = "" if name == "forward" else f"_{name}"
    row = {f"{peer}_over_this{ending}": round(times[peer] / times[method], 2) for peer in peers if peer != "copy"}
    if "copy" in peers:
        row[f"this_over_copy{ending}"] = round(times[method] / times["copy"], 2)
    return row


def _costs(name: str, compiled: Any, passed: float) -> dict[str, float]:
    memory = compiled.program.memory_analysis()
    moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
    row = {
        f"{name}_ms": round(1e3 * passed, 3),
        f"{name}_compile_seconds": round(compiled.seconds, 2),
        f"{name}_peak_over_io": round((moved + memory.temp_size_in_bytes) / moved, 3),
    }
    if " while(" not in compiled.program.as_text():
        row[f"{name}_bytes_over_minimum"] = round(compiled.program.cost_analysis()["bytes accessed"] / moved, 2)
    return row


def _relative(value: Any, expected: Any) -> float:
    kind = np.result_type(expected, np.float64)
    return float(np.max(np.abs(value.astype(kind) - expected)) / max(float(np.max(np.abs(expected))), 1e-30))


def _largest(tree: Any) -> float:
    return float(f"{max(jax.tree.leaves(tree)):.2g}")
