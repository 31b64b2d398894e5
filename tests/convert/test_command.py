"""The conversion as a command: it writes what is right, and nothing else."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from jaxseq.convert import load_model
from jaxseq.convert.command import convert
from jaxseq.convert.hf import write_hf
from tests.convert.classes import saved


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return saved("mamba", tmp_path_factory.mktemp("source"))


@pytest.fixture
def broken(source, tmp_path):
    """A copy of the source to spoil."""
    folder = tmp_path / "broken"
    shutil.copytree(source, folder)
    return folder


def run(*args, **options):
    lines = []
    convert(*map(str, args), **{"form": "jaxseq", **options}, say=lines.append)
    return lines


def test_there_and_back_is_the_same_model(source, tmp_path):
    lines = run(source, tmp_path / "ours")
    assert len(lines) == 5
    assert "TOO LARGE" not in "".join(lines)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model"]["pattern"] == ["mamba"]
    run(tmp_path / "ours", tmp_path / "theirs", form="hf", verify=False)
    before, after = load_model(source), load_model(tmp_path / "theirs")
    assert before[0].config == after[0].config
    jax.tree.map(np.testing.assert_array_equal, before[1], after[1])


def test_bfloat16_survives(source, tmp_path):
    run(source, tmp_path / "half", form="hf", dtype="bfloat16", verify=False)
    run(tmp_path / "half", tmp_path / "again", form="hf", dtype="bfloat16", verify=False)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("half", "again"))
    assert first == second
    assert len(first) < 0.6 * len((source / "model.safetensors").read_bytes())
    _, params = load_model(tmp_path / "half")
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def spoil_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def without(folder, name):
    tensors = load_file(folder / "model.safetensors")
    if name in tensors:
        del tensors[name]
    else:
        tensors[name] = np.zeros(3, np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (truncate, ValueError, "model.safetensors is not a whole safetensors file"),
        (pickled, ValueError, "pickled weights alone, which can run code"),
        (
            lambda f: without(f, "backbone.layers.1.mixer.D"),
            ValueError,
            r"must have backbone.layers.1.mixer.D \(1 tensor",
        ),
        (lambda f: without(f, "more"), ValueError, "have more, which MambaForCausalLM has not"),
        (lambda f: spoil_config(f, model_type="llama"), ValueError, "model_type must be one of mamba, .* got 'llama'"),
        (lambda f: spoil_config(f, use_bias=True), ValueError, "use_bias must be False to be converted, got True"),
        (lambda f: spoil_config(f, brand_new=1), ValueError, "does not know: brand_new"),
        (lambda f: spoil_config(f, state_size=7), ValueError, "must make .* of shape"),
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, "there is no config.json"),
        (lambda f: (f / "config.json").write_text("{"), ValueError, "not valid JSON"),
    ],
)
def test_a_source_that_is_not_whole_is_named_and_nothing_is_written(spoil, error, message, broken, tmp_path):
    spoil(broken)
    with pytest.raises(error, match=message):
        run(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_holds_something_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="out is there and not empty"):
        run(source, tmp_path / "out", verify=False)
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_a_model_that_transformers_has_not_is_refused_with_the_reason(source, tmp_path):
    model, params = load_model(source)
    with pytest.raises(
        ValueError, match=r"no such model \(MambaForCausalLM: model.residual_scale must be False, got True"
    ):
        write_hf(tmp_path, replace(model.config, residual_scale=True), params)
    with pytest.raises(ValueError, match="no class of transformers is made of lru"):
        write_hf(tmp_path, replace(model.config, pattern=("lru",), options={}), params)
