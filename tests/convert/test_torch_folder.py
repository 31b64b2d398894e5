"""A model as a folder with its own PyTorch code comes back whole, runs alone and in transformers, and generates."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxseq.checkpoint import read_model, save_model
from jaxseq.convert import load_model, torch_folder
from jaxseq.convert import modeling_jaxseq as code
from jaxseq.convert.command import convert
from jaxseq.convert.torch_folder import read_torch, write_torch
from jaxseq.data import ByteTokenizer
from jaxseq.experiment import Experiment, InitConfig
from jaxseq.generate import Sampling, generate
from jaxseq.model import ModelConfig
from jaxseq.train.origin import adopt, first_params
from tests.convert.drawn import tiny

BYTES = 264


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir of a byte-level model, its model and its parameters."""
    folder = tmp_path_factory.mktemp("work") / "run"
    folder.mkdir()
    options = {"lru": {"states": 6}, "attention": {"heads": 2, "window": 8}}
    model, params = tiny(tuple(options), options, layers=1, vocab=BYTES)
    save_model(folder, Experiment(model=model.config), params)
    return folder


@pytest.fixture(scope="module")
def folder(workdir, tmp_path_factory):
    """(the folder of PyTorch, what the command said)."""
    target, lines = tmp_path_factory.mktemp("torch") / "out", []
    convert(str(workdir), str(target), "torch", say=lines.append)
    return target, lines


def test_the_command_compares_in_float32_and_bfloat16(folder):
    assert [line.split("  ")[0] for line in folder[1][1:]] == [
        "float32, logits",
        "float32, logits of a padded batch",
        "float32, of 64 greedy tokens differ",
        "bfloat16, logits from float32",
    ]
    assert "TOO LARGE" not in "".join(folder[1])


ALONE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import modeling_jaxseq
model = modeling_jaxseq.load(sys.argv[1])
ids = model.generate(modeling_jaxseq.encode("def "), 32)[0].tolist()
assert not {"jax", "transformers", "safetensors", "numpy.testing"} & set(sys.modules), sorted(sys.modules)
print(ids)
"""


def test_with_torch_alone_it_generates_what_jaxseq_does(workdir, folder):
    _, model, params, _ = read_model(workdir)
    ours: list[int] = []
    options = {"max_tokens": 32, "sampling": Sampling(temperature=0)}
    generate(model, params, ByteTokenizer(), [b"def "], **options, on_token=lambda _, token: ours.append(token))
    command = [sys.executable, "-I", "-c", ALONE, str(folder[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    assert len(ours) > 4
    assert theirs[: len(ours)] == ours


def test_there_and_back_gives_the_same_parameters(workdir, folder, tmp_path):
    lines: list[str] = []
    convert(str(folder[0]), str(tmp_path / "back"), "jaxseq", say=lines.append)
    before, after = load_model(workdir), load_model(tmp_path / "back")
    assert before[0].config == after[0].config
    jax.tree.map(np.testing.assert_array_equal, before[1], after[1])
    assert len(lines) == 5


def test_training_starts_from_such_a_folder(workdir, folder, mesh):
    config = adopt(Experiment(init=InitConfig(from_hf=str(folder[0]))))
    model, params = load_model(workdir)
    assert (config.model.pattern, config.model.options) == (model.config.pattern, model.config.options)
    jax.tree.map(np.testing.assert_array_equal, first_params(config, mesh), params)


def test_bfloat16_is_rounded_once(workdir, tmp_path, mesh):
    convert(str(workdir), str(tmp_path / "half"), "torch", dtype="bfloat16", say=lambda _: None)
    params = read_torch(tmp_path / "half", mesh)[1]
    expected = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), load_model(workdir)[1])
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert code.load(tmp_path / "half").embedding.dtype == torch.bfloat16


def test_shards_are_read_in_both_frameworks(workdir, tmp_path, mesh):
    model, params = load_model(workdir)
    write_torch(tmp_path, model.config, params, shard_bytes=10_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    jax.tree.map(np.testing.assert_array_equal, read_torch(tmp_path, mesh)[1], params)
    np.testing.assert_array_equal(code.load(tmp_path).head.detach().numpy(), params["head"])


def swapped(tensors):
    """Two parameters of one shape in each other's place."""
    turn = {"w_value": "w_gate", "w_gate": "w_value"}
    for name, value in tensors:
        *path, last = name.split(".")
        yield ".".join([*path, turn.get(last, last) if "mixer" in path else last]), value


def turned(tensors):
    """A missing transpose of square matrices."""
    return ((name, value.T if name.endswith("mixer.w_o") else value) for name, value in tensors)


@pytest.mark.parametrize("spoil", [swapped, turned])
def test_what_is_written_wrong_is_found_and_nothing_is_left(spoil, workdir, tmp_path, monkeypatch):
    right = torch_folder.written
    monkeypatch.setattr(torch_folder, "written", lambda *args: spoil(right(*args)))
    with pytest.raises(ValueError, match=r"the result is not right \(float32, logits\) and was removed"):
        convert(str(workdir), str(tmp_path / "out"), "torch", say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_what_is_read_wrong_is_found_and_nothing_is_left(folder, tmp_path, monkeypatch):
    right = torch_folder.names_of
    turn = {"layers.1.mixer.w_k": "layers.1.mixer.w_v", "layers.1.mixer.w_v": "layers.1.mixer.w_k"}
    monkeypatch.setattr(torch_folder, "names_of", lambda *args: [turn.get(name, name) for name in right(*args)])
    with pytest.raises(ValueError, match=r"the result is not right \(float32, logits\) and was removed"):
        convert(str(folder[0]), str(tmp_path / "out"), "jaxseq", say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_tensors_that_do_not_fit_are_named(workdir, tmp_path, mesh, monkeypatch):
    model, params = load_model(workdir)
    right = list(torch_folder.written(model.config, params, np.float32))
    spoiled = {
        r"must have layers\.0\.mixer\.d \(1 tensors": [x for x in right if x[0] != "layers.0.mixer.d"],
        "have more, which the model has not": [*right, ("more", np.zeros(3, np.float32))],
        r"head must be of shape \(16, 264\), got \(264, 16\)": [(n, x.T if n == "head" else x) for n, x in right],
    }
    for i, (message, tensors) in enumerate(spoiled.items()):
        monkeypatch.setattr(torch_folder, "written", lambda *_, t=tensors: t)
        (tmp_path / str(i)).mkdir()
        write_torch(tmp_path / str(i), model.config, params)
        with pytest.raises(ValueError, match=message):
            read_torch(tmp_path / str(i), mesh)


@pytest.mark.parametrize(("table", "name"), [("MIXERS", "para_rnn"), ("CELLS", "para_gru")])
def test_what_the_code_does_not_have_is_refused_by_name(table, name, tmp_path, monkeypatch):
    monkeypatch.delitem(getattr(code, table), name)
    with pytest.raises(ValueError, match=rf"has no (mixer|cell) {name}: it has .*\w+"):
        write_torch(tmp_path, ModelConfig(), {})


def test_a_padded_batch_generates_what_each_prompt_does_alone(folder):
    model = code.load(folder[0])
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 9)))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :4] = mask[1, 6:] = False
    both = model.generate(tokens, 12, mask=mask)
    alone = [model.generate(row[valid][None], 12)[0] for row, valid in zip(tokens, mask, strict=True)]
    torch.testing.assert_close(both, torch.stack(alone), rtol=0, atol=0)


def test_a_temperature_draws_from_the_softmax(folder):
    model = code.load(folder[0])
    prompt = code.encode("a").expand(4000, -1)
    found = model.generate(prompt, 1, temperature=2.0, generator=torch.Generator().manual_seed(0))[:, 0]
    expected = torch.softmax(model(prompt[:1])[0][0, -1, :257] / 2.0, -1)
    assert found.max() < 257
    torch.testing.assert_close(torch.bincount(found, minlength=257) / 4000, expected, rtol=0, atol=0.03)


def test_generation_ends_when_every_row_has_stopped(folder):
    model = code.load(folder[0])
    prompt = code.encode("ab")
    free = model.generate(prompt, 10)[0].tolist()
    stopped = model.generate(prompt, 10, stop=free[3])[0].tolist()
    assert stopped == free[: free.index(free[3]) + 1]


def test_more_tokens_than_attention_sees_are_refused(tmp_path):
    model, params = tiny(("attention",), {"attention": {"context": 8}}, layers=1)
    write_torch(tmp_path, model.config, params)
    with pytest.raises(ValueError, match="at most 8 tokens, got 9"):
        code.load(tmp_path).generate(torch.zeros(1, 4, dtype=torch.long), 6)


@pytest.fixture
def auto(folder, tmp_path, monkeypatch):
    """The folder's model as AutoModelForCausalLM loads it."""
    from transformers import AutoModelForCausalLM, dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return AutoModelForCausalLM.from_pretrained(folder[0], trust_remote_code=True).eval()


def test_transformers_loads_the_folder_and_generates_the_same(auto, folder):
    tokens = code.encode("def main")
    plain = code.load(folder[0])
    with torch.no_grad():
        torch.testing.assert_close(auto(tokens).logits, plain(tokens)[0], rtol=0, atol=0)
        options = {"max_new_tokens": 20, "do_sample": False, "suppress_tokens": list(range(257, BYTES))}
        found = auto.generate(tokens, attention_mask=torch.ones_like(tokens), **options)[0, tokens.shape[1] :]
    expected = plain.generate(tokens, 20, stop=code.BOS)[0]
    assert found.tolist() == expected.tolist()


def test_transformers_carries_the_state_and_gives_a_loss(auto):
    tokens = code.encode("def main")
    with torch.no_grad():
        whole = auto(tokens, labels=tokens)
        first = auto(tokens[:, :4])
        rest = auto(tokens[:, 4:], state=first.state)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), whole.logits, rtol=1e-4, atol=1e-5)
    expected = torch.nn.functional.cross_entropy(whole.logits[0, :-1], tokens[0, 1:])
    torch.testing.assert_close(whole.loss, expected)
