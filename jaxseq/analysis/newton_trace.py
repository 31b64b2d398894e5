"""How Newton closes in on the states of a trained model: residual and exact prefix against iterations, by layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.checkpoint import read_model
from jaxseq.data import open_data, open_tokenizer, stream_batches
from jaxseq.experiment import DataConfig
from jaxseq.mixers.para_rnn import ParaRNN
from jaxseq.model import LanguageModel
from jaxseq.model.block import make_mixer
from jaxseq.solvers import Newton, solve
from jaxseq.solvers.guess import first_guess
from jaxseq.solvers.system import System


def newton_trace(
    cell: Any, params: Any, u: Any, h0: Any, reset: jax.Array | None = None, *, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """Residuals (iterations, B) float and exact prefixes (iterations, B) int32 after 1, 2, ... Newton iterations.

    cell, params, u, h0 and reset are those of `solve`, the two results its `residual` and `exact_prefix`. A sequence
    that has converged stays where it is; the residual of one that is not finite is inf.
    """
    guess = first_guess(cell, System(params, u, h0, reset, None), "step", 0)
    once = Newton(max_iterations=1, on_failure="return")

    def body(h: Any, _: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        found = solve(cell, params, u, h0, reset=reset, solver=once, guess=h)
        return found.h, (found.residual, found.exact_prefix)

    return lax.scan(body, guess, length=iterations)[1]


def trace_workdir(workdir: str, *, step: int | None = None, iterations: int = 12) -> Iterator[dict[str, Any]]:
    """One row per para_rnn layer, from the first batch of the run's validation split, for the latest checkpoint unless
    `step` says otherwise: {"layer", "cell", "length", "residual": the largest over sequences after 1, 2, ...
    iterations, "exact_prefix": the smallest}. After the last it draws workdir/trace.png.

    Raises FileNotFoundError and ValueError as `checkpoint.read_model` and `data.open_source` do, and ValueError for
    iterations below 1, and for a model without para_rnn layers.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    config, model, params, _ = read_model(workdir, step)
    if "para_rnn" not in config.model.pattern:
        raise ValueError(f"{workdir} has no para_rnn layer to trace: its pattern is {', '.join(config.model.pattern)}")
    rows = []
    for row in trace(model, params, _first_batch(config.data, workdir), iterations):
        rows.append(row)
        yield row
    draw_trace(rows, Path(workdir) / "trace.png")


def trace(model: LanguageModel, params: Any, batch: dict[str, Any], iterations: int) -> Iterator[dict[str, Any]]:
    """The rows of `trace_workdir` for a model and a batch with "tokens" (B, T + 1) int32 and "reset" (B, T) bool."""
    for number, mixer, system in systems(model, params, batch["tokens"][:, :-1], batch["reset"]):
        cell = mixer.make_cell()
        run = jax.jit(partial(newton_trace, cell, iterations=iterations))
        residual, prefix = run(*system, jnp.asarray(batch["reset"]))
        yield {
            "layer": number,
            "cell": mixer.cell,
            "length": int(batch["reset"].shape[1]),
            "residual": [float(f"{x:.3g}") for x in jnp.max(residual, axis=1)],
            "exact_prefix": [int(x) for x in jnp.min(prefix, axis=1)],
        }


def systems(model: LanguageModel, params: Any, tokens: Any, reset: Any) -> Iterator[tuple[int, ParaRNN, Any]]:
    """(number of the layer, mixer, (its cell's parameters, u, h0)) of every para_rnn layer, block after block."""
    config = model.config
    run = jax.jit(lambda params: model.apply({"params": params}, tokens, reset=reset, mutable=["trace"])[1])
    seen = run(params)["trace"]["layers"]
    for number in range(config.layers):
        repeat, i = divmod(number, len(config.pattern))
        mixer = make_mixer(config, config.pattern[i])
        if isinstance(mixer, ParaRNN):
            (system,) = seen[f"block_{i}"]["mixer"]["system"]
            yield number, mixer, jax.tree.map(lambda x, r=repeat: x[r], system)


def draw_trace(rows: list[dict[str, Any]], picture: str | Path) -> None:
    """Draws the rows of `trace_workdir` into a PNG.

    Raises ModuleNotFoundError without matplotlib (the extra `terminal`).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in rows:
        after = range(1, len(row["residual"]) + 1)
        left.semilogy(after, row["residual"], "o-", label=f"layer {row['layer']}, {row['cell']}")
        right.plot(after, row["exact_prefix"], "o-")
    left.set(xlabel="iterations", ylabel="largest residual")
    right.set(xlabel="iterations", ylabel=f"exact steps of {rows[0]['length']}")
    left.legend()
    FigureCanvasAgg(figure).print_png(str(picture))


def _first_batch(data: DataConfig, workdir: str) -> dict[str, Any]:
    tokenizer = open_tokenizer(data.tokenizer, workdir)
    documents = open_data(data, tokenizer).documents("validation")
    return next(iter(stream_batches(documents, tokenizer, length=data.length, batch=data.batch)))
