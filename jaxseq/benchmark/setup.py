"""A training step on random tokens, as the benchmarks time it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseq.experiment import DataConfig, Experiment
from jaxseq.model import LanguageModel, ModelConfig, count, declare, make_params
from jaxseq.sharding import make_mesh
from jaxseq.train.optimizer import make_optimizer
from jaxseq.train.state import TrainState, make_state
from jaxseq.train.step import make_step, place


@dataclass
class Bench:
    """One model with its step; calling it takes a step. Times in seconds."""

    config: Experiment
    mesh: Mesh
    state: TrainState
    step: Any
    batch: dict[str, jax.Array]
    parameters: int
    first_step: float
    dispatch: list[float]

    def __call__(self) -> jax.Array:
        """A step; the time until the call returns, with the result not there yet, goes to `dispatch`."""
        with jax.set_mesh(self.mesh):
            began = time.perf_counter()
            self.state, metrics = self.step(self.state, self.batch)
            self.dispatch.append(time.perf_counter() - began)
        return metrics["loss"]


def make_bench(model: ModelConfig, rows: int, length: int) -> Bench:
    """A fresh model on all devices; `first_step` is trace, compilation and one step."""
    config = Experiment(model=model, data=DataConfig(batch=rows, length=length))
    mesh = make_mesh(config.mesh)
    language_model = LanguageModel(model)
    declared = declare(language_model)
    optimizer = make_optimizer(config, declared)
    with jax.set_mesh(mesh):
        state = make_state(make_params(language_model, 0, mesh), language_model, optimizer, mesh)
        batch = place(random_batch(rows, length), mesh)
        step = make_step(language_model, optimizer, config, mesh)
        began = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    first = time.perf_counter() - began
    return Bench(config, mesh, state, step, batch, count(declared), first, [])


def random_batch(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random bytes in documents of about 300 tokens."""
    rng = np.random.default_rng(seed)
    return {
        "tokens": rng.integers(0, 256, (rows, length + 1), dtype=np.int32),
        "reset": rng.random((rows, length)) < 1 / 300,
        "weight": np.ones((rows, length), np.float32),
    }
