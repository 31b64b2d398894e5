"""Microbatches add up to the batch, and eight devices compute what one does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.benchmark.setup import random_batch
from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import LanguageModel, ModelConfig, declare, make_params
from jaxseq.sharding import make_mesh
from jaxseq.train.optimizer import make_optimizer
from jaxseq.train.state import make_state
from jaxseq.train.step import make_step, place, summarise


def one_step(shape, devices, accumulate=1, dtype="float32"):
    """Metrics of the first step, and the gradient's first moment, which is (1 - b1) times the clipped gradient."""
    config = Experiment(
        model=ModelConfig(width=16, layers=1, dtype=dtype),
        data=DataConfig(batch=8, length=16),
        optim=OptimConfig(clip_norm=1e6),
        train=TrainConfig(accumulate=accumulate),
    )
    mesh = make_mesh(shape, jax.devices()[:devices])
    model = LanguageModel(config.model)
    optimizer = make_optimizer(config, declare(model))
    batch = random_batch(8, 16)
    batch["weight"][3:, 5:] = 0  # microbatches of unequal weight
    with jax.set_mesh(mesh):
        state = make_state(make_params(model, 0, mesh), model, optimizer, mesh)
        state, metrics = make_step(model, optimizer, config, mesh)(state, place(batch, mesh))
    return jax.device_get(metrics), jax.device_get(state.opt_state[1][0].mu), state


@pytest.fixture(scope="module")
def whole():
    return one_step((1, 1, 1, 1), 1)


def assert_same(a, b):
    assert a[0]["loss"] == pytest.approx(b[0]["loss"], rel=1e-6)
    assert a[0]["grad_norm"] == pytest.approx(b[0]["grad_norm"], rel=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(b[1]))
    for x, y in zip(jax.tree.leaves(a[1]), jax.tree.leaves(b[1]), strict=True):
        assert np.abs(x - y).max() <= 5e-6 * largest


def test_microbatches_give_the_loss_and_gradient_of_the_batch(whole):
    assert_same(one_step((1, 1, 1, 1), 1, accumulate=4), whole)


def test_eight_devices_give_the_loss_and_gradient_of_one(whole):
    assert_same(one_step((2, 2, 2, 1), 8), whole)


def test_parameters_and_moments_lie_as_declared():
    _, _, state = one_step((2, 2, 2, 1), 8)
    embedding, moment = state.params["embedding"], state.opt_state[1][0].mu["embedding"]
    assert embedding.sharding.spec == moment.sharding.spec == jax.sharding.PartitionSpec("tensor", "fsdp")
    assert embedding.addressable_shards[0].data.shape == (132, 8)


def test_bfloat16_activations_keep_float32_parameters(whole):
    metrics, _, state = one_step((1, 1, 1, 1), 1, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert metrics["loss"] == pytest.approx(whole[0]["loss"], rel=2e-2)
    assert metrics["loss"] != whole[0]["loss"]


def test_layers_are_summarised_by_their_mean_or_their_worst():
    layers = {
        "block_0": {"iterations": jnp.array([2.0, 4.0]), "residual": jnp.array([0.1, 0.3])},
        "block_1": {"iterations": jnp.array([6.0, 8.0]), "residual": jnp.array([0.2, 0.0])},
    }
    found = summarise({"layers": layers})
    assert {name: float(value) for name, value in found.items()} == pytest.approx({"iterations": 5, "residual": 0.3})
