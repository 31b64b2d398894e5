"""Models with their cells in the layout of the ParaRNN authors' library, there and back by the command."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxseq.checkpoint import save_model
from jaxseq.convert import load_model, pararnn_folder
from jaxseq.convert.command import convert
from jaxseq.convert.load import read_folder_config
from jaxseq.convert.pararnn_folder import write_pararnn
from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, ModelConfig, make_params
from jaxseq.sharding import make_mesh

CONFIG = ModelConfig(
    vocab=30, width=8, layers=4, pattern=("para_rnn", "lru"), options={"para_rnn": {"heads": 2}}, mlp_width=0,
    remat="none",
)  # fmt: skip
CELL = "layers.2.mixer.cell."


def with_cell(name):
    return replace(CONFIG, options={"para_rnn": {"heads": 2, "cell": name}})


@pytest.fixture(scope="module", params=["para_gru", "para_lstm"])
def crossed(request, tmp_path_factory):
    """(workdir, folder of ml-pararnn, what the command said)."""
    root, lines = tmp_path_factory.mktemp("pararnn"), []
    model = LanguageModel(with_cell(request.param))
    params = make_params(model, 0, make_mesh(devices=jax.devices()[:1]))
    params = jax.tree.map(lambda x: x + 0.5 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32), params)
    (root / "run").mkdir()
    save_model(root / "run", Experiment(model=model.config), params)
    convert(str(root / "run"), str(root / "out"), "pararnn", say=lines.append)
    return root / "run", root / "out", lines


def test_there_and_back_gives_the_same_parameters(crossed, tmp_path):
    workdir, folder, _ = crossed
    convert(str(folder), str(tmp_path / "back"), "jaxseq", say=lambda _: None)
    before, after = load_model(workdir), load_model(tmp_path / "back")
    assert before[0].config == after[0].config == read_folder_config(folder)
    jax.tree.map(np.testing.assert_array_equal, before[1], after[1])


def test_a_layer_s_tensors_are_the_state_dict_of_the_authors_class(crossed):
    workdir, folder, _ = crossed
    facts, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    own = {name.removeprefix(CELL) for name in tensors if name.startswith(CELL)}
    lstm = facts["cell"] == "LSTMCIFGDiagMH"
    assert own == {"A", "B", "b"} | ({"C"} if lstm else set())
    assert (facts["state_dim"], facts["input_dim"], facts["num_heads"], facts["layers"]) == (8, 8, 2, [0, 2])
    a = load_model(workdir)[1]["layers"]["block_0"]["mixer"]["cell"]["a"]
    np.testing.assert_array_equal(tensors[CELL + "A"], a[1, [0, 2, 1] if lstm else [0, 1, 2]])


def test_the_command_says_what_it_compared_and_what_it_did_not(crossed):
    facts = json.loads((crossed[1] / "config.json").read_text())
    assert "all but the cells under names of jaxseq's own" in crossed[2][0]
    assert "the library itself, built for CUDA, was not run" in crossed[2][1]
    assert [line.split("  ")[0] for line in crossed[2][2:]] == [
        f"float32, {facts['cell']} of layer 0",
        f"float32, {facts['cell']} of layer 2",
        "float32, parameters that differ",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A", "b"])
def test_gates_in_another_order_are_found_and_nothing_is_left(crossed, name, tmp_path, monkeypatch):
    right = pararnn_folder._written

    def wrong(*args):
        return ((n, x[[1, 0, 2]] if n == f"{CELL}{name}" else x) for n, x in right(*args))

    monkeypatch.setattr(pararnn_folder, "_written", wrong)
    with pytest.raises(ValueError, match=r"the result is not right \(float32, .* of layer 2\) and was removed"):
        convert(str(crossed[0]), str(tmp_path / "out"), "pararnn", say=lambda _: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_wrong_parameter_outside_the_cells_is_found(crossed, tmp_path, monkeypatch):
    right = pararnn_folder._written
    spoiled = lambda *args: ((n, -x if n == "embedding" else x) for n, x in right(*args))  # noqa: E731
    monkeypatch.setattr(pararnn_folder, "_written", spoiled)
    with pytest.raises(ValueError, match=r"the result is not right \(float32, parameters that differ\)"):
        convert(str(crossed[0]), str(tmp_path / "out"), "pararnn", say=lambda _: None)


@pytest.mark.slow
def test_bfloat16_is_rounded_once(crossed, tmp_path):
    convert(str(crossed[0]), str(tmp_path / "half"), "pararnn", dtype="bfloat16", say=lambda _: None)
    expected = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), load_model(crossed[0])[1])
    jax.tree.map(np.testing.assert_array_equal, load_model(tmp_path / "half")[1], expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (with_cell("lem"), "cell must be para_gru or para_lstm for ml-pararnn, got LEM"),
        (replace(CONFIG, pattern=("lru",), options={}), "pattern must have para_rnn for ml-pararnn, got lru"),
        (replace(CONFIG, shared_layers=True), "shared_layers must be False for ml-pararnn, got True"),
    ],
)
def test_what_the_library_has_not_is_refused(config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_pararnn(tmp_path, config, {})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop(CELL + "A"), r"must have layers\.2\.mixer\.cell\.A \(1 tensors are missing\)"),
        (lambda t: t.update({CELL + "a": t["norm"]}), r"have layers\.2\.mixer\.cell\.a, which the model has not"),
        (
            lambda t: t.update({CELL + "b": t["norm"]}),
            r"layers\.2\.mixer\.cell\.b must be of shape \(3, 8\), got \(8,\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(crossed, spoil, message, tmp_path):
    tensors = load_file(crossed[1] / "model.safetensors")
    spoil(tensors)
    (tmp_path / "config.json").write_bytes((crossed[1] / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_cells_without_the_model_around_them_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "pararnn"}')
    with pytest.raises(ValueError, match="must have the field jaxseq, the model around the cells"):
        load_model(tmp_path)
