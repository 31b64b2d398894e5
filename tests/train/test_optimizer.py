"""Decay where it was declared, entries within their bounds, the schedule as stated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.experiment import Experiment, OptimConfig, TrainConfig
from jaxseq.sharding import param
from jaxseq.train.optimizer import keep_within, make_optimizer, make_schedule


def declared(key):
    ones = jax.nn.initializers.ones
    return {
        "matrix": param(ones, None, None)(key, (2, 3)),
        "gain": param(ones, None)(key, (3,)),
        "recurrent": param(ones, None, clip=0.5)(key, (3,)),
    }


@pytest.fixture
def config():
    return Experiment(optim=OptimConfig(learning_rate=0.1, warmup=0, weight_decay=0.5), train=TrainConfig(steps=100))


def test_only_declared_matrices_decay(config, key):
    tree = declared(key)
    params = jax.tree.map(lambda leaf: 0.1 * leaf.value, tree, is_leaf=lambda x: hasattr(x, "axes"))
    optimizer = make_optimizer(config, tree)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert np.all(np.asarray(updates["matrix"]) < 0)
    assert not np.any(updates["gain"])
    assert not np.any(updates["recurrent"])


def test_bounded_entries_stay_bounded_whatever_the_gradient(config, key):
    tree = declared(key)
    params = jax.tree.map(lambda leaf: 0.4 * leaf.value, tree, is_leaf=lambda x: hasattr(x, "axes"))
    optimizer = make_optimizer(config, tree)
    state = optimizer.init(params)
    for _ in range(5):
        updates, state = optimizer.update(jax.tree.map(lambda x: -jnp.ones_like(x), params), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    assert np.allclose(params["recurrent"], 0.5, rtol=1e-6)
    assert np.all(np.asarray(params["gain"]) > 0.6)


def test_entries_that_start_outside_are_brought_in():
    transform = keep_within({"a": 0.5})
    updates, _ = transform.update({"a": jnp.zeros(2)}, transform.init(None), {"a": jnp.array([2.0, -3.0])})
    assert np.allclose(jnp.array([2.0, -3.0]) + updates["a"], [0.5, -0.5])


def test_keep_within_needs_the_parameters():
    with pytest.raises(ValueError, match="needs the parameters"):
        keep_within({}).update({}, keep_within({}).init({}))


def test_the_schedule_warms_up_peaks_and_ends_at_its_fraction():
    config = Experiment(
        optim=OptimConfig(learning_rate=2.0, warmup=10, end_fraction=0.25), train=TrainConfig(steps=110)
    )
    schedule = make_schedule(config)
    assert float(schedule(0)) == 0
    assert float(schedule(10)) == pytest.approx(2)
    assert float(schedule(60)) == pytest.approx(1.25)
    assert float(schedule(110)) == pytest.approx(0.5)
