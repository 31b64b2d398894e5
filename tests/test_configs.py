"""Every shipped config builds, survives JSON, has a model of the size it states, and trains one abstract step."""

import ast
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxseq.config import from_json, load_config, to_json
from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, count, declare
from jaxseq.sharding import make_mesh
from jaxseq.train.optimizer import make_optimizer
from jaxseq.train.state import abstract_state
from jaxseq.train.step import make_step
from tests.marks import slow_but

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_are_configs():
    assert CONFIGS


def test_it_is_an_experiment(path):
    assert isinstance(load_config(path), Experiment)


def test_it_survives_json(path):
    config = load_config(path)
    assert from_json(Experiment, json.loads(json.dumps(to_json(config)))) == config


def test_its_docstring_states_its_parameter_count(path):
    stated = re.search(r"([\d,]+) parameters", ast.get_docstring(ast.parse(path.read_text())))
    assert stated is not None, "say how many parameters the model has"
    assert int(stated[1].replace(",", "")) == count(declare(LanguageModel(load_config(path).model)))


@pytest.mark.parametrize("path", slow_but(CONFIGS[0].with_stem("quickstart"), CONFIGS), indirect=True)
def test_its_train_step_keeps_the_state_as_it_is(path):
    config = load_config(path)
    model = LanguageModel(config.model)
    optimizer = make_optimizer(config, declare(model))
    state = abstract_state(model, optimizer)
    rows, length = config.data.batch, config.data.length
    batch = {
        "tokens": jax.ShapeDtypeStruct((rows, length + 1), jnp.int32),
        "reset": jax.ShapeDtypeStruct((rows, length), jnp.bool_),
        "weight": jax.ShapeDtypeStruct((rows, length), jnp.float32),
    }
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        after, metrics = jax.eval_shape(make_step(model, optimizer, config, mesh), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {"loss", "grad_norm", "tokens"} <= set(metrics)


def test_it_is_short(path):
    assert len(path.read_text().splitlines()) < 40
