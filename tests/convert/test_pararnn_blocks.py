"""The cells of a model's layers, to files of the ParaRNN authors' naming and back."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxseq.convert.pararnn_layers import read_cells, write_cells
from jaxseq.model import LanguageModel, ModelConfig, make_params
from jaxseq.sharding import make_mesh

CONFIG = ModelConfig(
    width=8, layers=4, pattern=("para_rnn", "lru"), options={"para_rnn": {"heads": 2}}, mlp_width=0, remat="none"
)


def with_cell(name):
    return replace(CONFIG, options={"para_rnn": {"heads": 2, "cell": name}})


@pytest.fixture(scope="module", params=["para_gru", "para_lstm"])
def model(request):
    """(config, parameters)."""
    config = with_cell(request.param)
    return config, make_params(LanguageModel(config), 0, make_mesh(devices=jax.devices()[:1]))


def test_each_layer_s_cell_comes_back_bit_for_bit(model, tmp_path):
    config, params = model
    write_cells(tmp_path, config, params)
    assert {path.name for path in tmp_path.iterdir()} == {"layer_0.safetensors", "layer_2.safetensors"}
    blank = jax.tree.map(lambda x: 0 * x, params)
    again = read_cells(tmp_path, config, blank)
    cell = params["layers"]["block_0"]["mixer"]["cell"]
    jax.tree.map(np.testing.assert_array_equal, again["layers"]["block_0"]["mixer"]["cell"], cell)
    assert not np.any(again["embedding"])
    assert not np.any(again["layers"]["block_1"]["mixer"]["w_in"])


def test_a_file_holds_the_authors_tensors_of_its_own_layer(model, tmp_path):
    config, params = model
    write_cells(tmp_path, config, params)
    tensors = load_file(tmp_path / "layer_2.safetensors")
    peepholes = {"C"} if config.options["para_rnn"]["cell"] == "para_lstm" else set()
    assert set(tensors) == {"A", "B", "b"} | peepholes
    a = params["layers"]["block_0"]["mixer"]["cell"]["a"]
    np.testing.assert_array_equal(tensors["A"][0], a[1, 0])  # the first gate of both; the second repeat
    assert np.any(np.asarray(a[0, 0]) != tensors["A"][0])


def test_what_the_library_has_not_is_refused(model, tmp_path):
    _, params = model
    with pytest.raises(ValueError, match="cell must be para_gru or para_lstm for ml-pararnn, got LEM"):
        write_cells(tmp_path, with_cell("lem"), params)
    with pytest.raises(ValueError, match=r"pattern must have para_rnn, got lru"):
        write_cells(tmp_path, replace(CONFIG, pattern=("lru",), options={}), params)


def test_a_layer_without_its_file_is_named(model, tmp_path):
    config, params = model
    write_cells(tmp_path, config, params)
    (tmp_path / "layer_2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"layer_2\.safetensors is not there, for layer 2"):
        read_cells(tmp_path, config, params)


def test_a_cell_of_another_size_is_named(model, tmp_path):
    config, params = model
    write_cells(tmp_path, config, params)
    path = tmp_path / "layer_0.safetensors"
    tensors = load_file(path)
    halves = {name: x[: x.shape[0] // 2] if name == "B" else x[:, : x.shape[-1] // 2] for name, x in tensors.items()}
    save_file({name: np.ascontiguousarray(x) for name, x in halves.items()}, path)
    wanted = r"layer_0\.safetensors must have d_input, d_state, heads = \(8, 8, 2\), got \(4, 4, 1\)"
    with pytest.raises(ValueError, match=wanted):
        read_cells(tmp_path, config, params)
