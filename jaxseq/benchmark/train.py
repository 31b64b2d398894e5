"""The train step against the machine's own matmul rate."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.benchmark.setup import Bench, make_bench, random_batch
from jaxseq.benchmark.timing import device, medians, square_matmul
from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.model.loss import cross_entropy

SHAPES = {
    "10M": (ModelConfig(width=384, layers=5), 32, 256),
    "quickstart": (ModelConfig(width=128, layers=2), 16, 256),
}
SOLVERS = ("newton", "sequential")


def train(repeats: int = 7) -> Iterator[dict[str, Any]]:
    """One row per shape and solver: model FLOPs (6 · parameters · tokens) of a step over its time, as a fraction of
    the rate of a 2048³ float32 matmul timed in turn with it; host time per step; seconds to the first step's end; and
    the deviation of loss and gradient from float64 with the sequential solver, on two rows.
    """
    product, operations = square_matmul()
    for name, (model, rows, length) in SHAPES.items():
        for solver in SOLVERS:
            config = replace(model, options={"para_rnn": {"solver": solver}})
            bench = make_bench(config, rows, length)
            times = medians({"step": bench, "matmul": product}, repeats)
            flops = 6.0 * bench.parameters * rows * length
            rate = operations / times["matmul"]
            yield {
                "benchmark": "train",
                "model": f"para_rnn {name}",
                "solver": solver,
                "shape": [rows, length, config.width, config.layers],
                "dtype": config.dtype,
                "device": device(),
                "parameters": bench.parameters,
                "fraction_of_matmul_rate": round(flops / times["step"] / rate, 3),
                "matmul_gflops": round(rate / 1e9, 1),
                "host_ms_per_step": round(1e3 * _dispatch(bench), 3),
                "first_step_seconds": round(bench.first_step, 1),
                **_deviation(config, bench),
            }


def _dispatch(bench: Bench) -> float:
    return statistics.median(bench.dispatch[1:])


def _deviation(config: ModelConfig, bench: Bench) -> dict[str, float]:
    batch = random_batch(2, bench.config.data.length, seed=1)
    params = jax.device_get(bench.state.params)
    loss, grads = _gradient(config, params, batch)
    with jax.enable_x64(True):
        exact = replace(config, options={"para_rnn": {"solver": "sequential"}}, dtype="float64")
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        expected_loss, expected = _gradient(exact, wide, batch)
    pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True)
    worst = max(float(abs(a - b).max() / max(abs(b).max(), 1e-12)) for a, b in pairs)
    return {"loss_deviation": abs(float(loss) - float(expected_loss)), "gradient_deviation": worst}


def _gradient(config: ModelConfig, params: Any, batch: Any) -> tuple[Any, Any]:
    model = LanguageModel(config)

    def objective(params: Any) -> jax.Array:
        logits, _ = model.apply({"params": params}, batch["tokens"][:, :-1], reset=batch["reset"])
        loss = cross_entropy(logits, batch["tokens"][:, 1:], batch["weight"])
        return loss.nats / loss.weight

    return jax.device_get(jax.jit(jax.value_and_grad(objective))(params))
