"""linear_scan's time against T and against channels, by every method and every peer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jaxseq.benchmark.ops_problems import linear
from jaxseq.benchmark.ops_programs import PASSES, compile_pass, in_turn, named_device

# The axis that varies: B, T and D of each point.
SWEEPS = {
    "T": [(4, time, 256) for time in (256, 512, 1024, 2048, 4096, 8192)],
    "D": [(4, 1024, width) for width in (32, 64, 128, 256, 512, 1024)],
}
SECONDS = 1.0  # for all methods and peers of a point


def draw(picture: str) -> Iterator[dict[str, Any]]:
    """One row per point and method or peer, with its milliseconds; then the PNG, a column of panels per sweep.

    Raises ModuleNotFoundError without matplotlib (the extra `terminal`).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(len(PASSES), len(SWEEPS))
    for column, (axis, shapes) in enumerate(SWEEPS.items()):
        for line, name in enumerate(PASSES):
            points = [(shape, _times(shape, name)) for shape in shapes]
            yield from (_row(name, shape, times) for shape, times in points)
            _panel(panels[line, column], axis, name, points)
    figure.suptitle(f"linear_scan, float32, {named_device()}")
    FigureCanvasAgg(figure).print_png(picture)


def _times(shape: tuple[int, ...], name: str) -> dict[str, float]:
    return in_turn(compile_pass(linear(shape), name), SECONDS)


def _row(name: str, shape: tuple[int, ...], times: dict[str, float]) -> dict[str, Any]:
    row = {"benchmark": "ops", "op": "linear_scan", "pass": name, "shape": list(shape), "dtype": "float32"}
    return {**row, "device": named_device(), "ms": {method: round(1e3 * passed, 3) for method, passed in times.items()}}


def _panel(axes: Any, axis: str, name: str, points: list[tuple[tuple[int, ...], dict[str, float]]]) -> None:
    sizes = [shape["BTD".index(axis)] for shape, _ in points]
    for method in points[0][1]:
        axes.loglog(sizes, [1e3 * times[method] for _, times in points], "o-", label=method.replace("_", " "))
    fixed = ", ".join(f"{letter} = {size}" for letter, size in zip("BTD", points[0][0], strict=True) if letter != axis)
    axes.set(xlabel=axis, ylabel="milliseconds", title=f"{name.replace('_', ' and ')} ({fixed})")
    axes.minorticks_off()
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.grid(alpha=0.3)
    axes.legend()
