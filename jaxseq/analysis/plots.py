"""loss.png: training and validation bits per byte against steps."""

from __future__ import annotations

import json
from pathlib import Path


def draw_loss(metrics: str | Path, picture: str | Path, xz: float | None = None) -> None:
    """Draws the lines of a metrics.jsonl into a PNG; `xz` (bits per byte) becomes a dashed line.

    Raises ModuleNotFoundError without matplotlib (the extra `terminal`).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in Path(metrics).read_text().splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for key, style in (("bits_per_byte", "-"), ("validation_bits_per_byte", "o-")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, style, label=key.replace("_", " "))
    if xz is not None:
        axes.axhline(xz, ls="--", color="gray", label="xz of the validation bytes")
    axes.set(xlabel="step", ylabel="bits per byte", title=Path(metrics).absolute().parent.name)
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(picture))
