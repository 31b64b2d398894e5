"""Whole models of transformers, there and back."""

import json

import jax
import numpy as np
import pytest

from jaxseq.convert.architectures import ARCHITECTURES
from jaxseq.convert.hf import read_hf, read_hf_config, write_hf
from jaxseq.convert.verify import FLOAT32, compare, load
from jaxseq.sharding import make_mesh
from tests.convert.classes import MODELS, saved

ALWAYS = {"mamba", "recurrent_gemma"}  # the others are slow


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in MODELS],
)
def crossed(request, tmp_path_factory):
    """(folder of transformers, our model, its parameters)."""
    folder = saved(request.param, tmp_path_factory.mktemp(request.param))
    return folder, *read_hf(folder, make_mesh(devices=jax.devices()[:1]))


def test_logits_and_greedy_tokens_are_those_of_transformers(crossed):
    found = {d.what: d for d in compare(*crossed)}
    assert len(found) == 4
    assert not [str(d) for d in found.values() if not d.passed]


def test_what_is_written_is_what_was_read(crossed, tmp_path):
    folder, model, params = crossed
    write_hf(tmp_path, model.config, params, shard_bytes=30_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert read_hf_config(tmp_path)[1] == model.config
    _, again = read_hf(tmp_path, make_mesh((2, 2, 2, 1)))
    jax.tree.map(np.testing.assert_array_equal, again, params)
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path))
    tokens = {"pad_token_id", "bos_token_id", "eos_token_id"}  # generation_config.json has them
    same = set(before) & set(after) - {"transformers_version", "block_types", "intermediate_size"} - tokens
    differ = {name for name in same if before[name] != after[name]}
    assert differ <= {"block_auto_adjust_ff_dim", "ffn_proj_factor"}  # two ways to write the MLP's width


def test_transformers_makes_the_same_of_what_is_written(crossed, tmp_path):
    folder, model, params = crossed
    write_hf(tmp_path, model.config, params)
    tokens = np.random.default_rng(0).integers(0, model.config.vocab, (2, 9))
    expected, found = (load(path, "float32").logits(tokens) for path in (folder, tmp_path))
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32 * np.max(np.abs(expected)))


def test_every_architecture_is_tried():
    assert {a.model_type for a in ARCHITECTURES} == set(MODELS)
