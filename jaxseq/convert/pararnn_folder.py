"""Whole models whose cells are in the layout of the ParaRNN authors' library: config.json and safetensors.

    layers.3.mixer.cell.A, B, b (and C)   what GRUDiagMH (or LSTMCIFGDiagMH) of layer 3 loads
    layers.3.mixer.w_x, embedding, ...    all else, by our own dotted names

What the authors call the parts around a cell in their language models is not published with the library, so these keep
our names. config.json names the cell, its sizes and its layers, and has the ModelConfig.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseq.cells import Cell
from jaxseq.cells.paragru import ParaGRU
from jaxseq.cells.paralstm import ParaLSTM
from jaxseq.config import from_json, to_json
from jaxseq.convert.architecture import mixer_of
from jaxseq.convert.bar import Seen, each, unseen
from jaxseq.convert.hf import SHARD_BYTES, laid_out
from jaxseq.convert.layout import Layout, to_numpy
from jaxseq.convert.pararnn import LAYOUTS
from jaxseq.convert.tensors import Tensors, write_tensors
from jaxseq.convert.torch_folder import check_tensors, expected_of, names_of, part, written
from jaxseq.mixers.para_rnn import ParaRNN
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.sharding import dotted

MODEL_TYPE = "pararnn"
CELL = ".mixer.cell."
CLASSES: dict[type[Cell], tuple[str, str]] = {
    ParaGRU: ("GRUDiagMH", "pararnn_gru"),
    ParaLSTM: ("LSTMCIFGDiagMH", "pararnn_lstm"),
}


def is_pararnn(folder: str | Path) -> bool:
    """Whether a folder is one of these. Raises ValueError where its config.json is not JSON."""
    path = Path(folder) / "config.json"
    return path.is_file() and _read(path).get("model_type") == MODEL_TYPE


def read_pararnn_config(folder: str | Path) -> ModelConfig:
    """What the config.json of a folder says. Raises ValueError where a field is missing, unknown or does not fit."""
    path = Path(folder) / "config.json"
    if "jaxseq" not in (values := _read(path)):
        raise ValueError(f"{path} must have the field jaxseq, the model around the cells")
    return from_json(ModelConfig, values["jaxseq"], defaults=True)


def read_pararnn(folder: str | Path, mesh: Mesh, seen: Seen = unseen) -> tuple[LanguageModel, Any]:
    """The model of a folder, and its parameters (float32) laid out on the mesh; `seen` is told of each.

    Raises FileNotFoundError and ValueError as `Tensors` does, and ValueError for a tensor that is missing, unknown or
    wrongly shaped, by its name.
    """
    config, tensors = read_pararnn_config(folder), Tensors(folder)
    declared = declare(LanguageModel(config))
    check_tensors(tensors, _expected(config, declared))
    _, layout, _ = cell_of(config)

    def one(path: Any, leaf: Any, sharding: Any) -> jax.Array:
        name, shape = dotted(path), leaf.value.shape
        if CELL not in name:
            return jax.make_array_from_callback(shape, sharding, lambda i: part(tensors, config, name, i or ()))
        *_, own = name.split(".")
        cells = [layout.read(cell_tensors(tensors, where))[1] for where in _prefixes(config, name)]
        return jax.device_put(np.stack([cell[own] for cell in cells]), sharding)

    return LanguageModel(config), laid_out(one, declared, mesh, seen)


def write_pararnn(
    folder: Path,
    config: ModelConfig,
    params: Any,
    dtype: Any = np.float32,
    shard_bytes: int = SHARD_BYTES,
    seen: Seen = unseen,
) -> str:
    """Writes config.json and the tensors, in `dtype`, into an empty folder; the class of the library. `seen` is told of
    each tensor.

    Raises ValueError for a model without `para_rnn` layers, or with a cell that the library has not.
    """
    cell, _, name = cell_of(config)
    sizes = {"input_dim": cell.d_input, "state_dim": cell.d_state, "num_heads": cell.heads}
    names = {"architectures": [name], "model_type": MODEL_TYPE, "cell": name}
    facts = {**names, **sizes, "layers": layers_of(config), "dtype": np.dtype(dtype).name, "jaxseq": to_json(config)}
    (folder / "config.json").write_text(json.dumps(facts, indent=2) + "\n")
    total = len(_expected(config, declare(LanguageModel(config))))
    write_tensors(folder, each(_written(config, params, dtype), total, seen), shard_bytes)
    return name


def cell_of(config: ModelConfig) -> tuple[Cell, Layout, str]:
    """The cell of a model's `para_rnn` layers, its layout there, and its class. ValueError where there is none."""
    if "para_rnn" not in config.pattern:
        raise ValueError(f"model.pattern must have para_rnn for ml-pararnn, got {', '.join(config.pattern)}")
    if config.shared_layers:
        raise ValueError("model.shared_layers must be False for ml-pararnn, got True")
    cell = mixer_of(config, "para_rnn", ParaRNN).make_cell()
    if type(cell) not in CLASSES:
        raise ValueError(f"para_rnn.cell must be para_gru or para_lstm for ml-pararnn, got {type(cell).__name__}")
    name, layout = CLASSES[type(cell)]
    return cell, LAYOUTS[layout], name


def layers_of(config: ModelConfig) -> list[int]:
    """Which layers are `para_rnn`, from the input on."""
    return [layer for layer, kind in enumerate(config.pattern * config.repeats) if kind == "para_rnn"]


def cell_tensors(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """The state dict, float32, of the cell whose tensors begin with `prefix`."""
    found = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
    return {own: to_numpy(tensors[name]).astype(np.float32) for own, name in found.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def _prefixes(config: ModelConfig, name: str) -> list[str]:
    """What the tensors of each layer's cell begin with, for the layers that a parameter of ours is stacked over."""
    return [theirs[: theirs.index(CELL) + len(CELL)] for theirs in names_of(config, name)]


def _expected(config: ModelConfig, declared: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by name: those of ours outside the cells, and what the layout makes of the cells."""
    cell, layout, _ = cell_of(config)
    ours = expected_of(config, declared)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), jax.eval_shape(cell.init, jax.random.key(0)))
    shapes = {own: x.shape for own, x in layout.write(cell, zeros).items()}
    cells = {f"layers.{layer}{CELL}{own}": shape for layer in layers_of(config) for own, shape in shapes.items()}
    return {name: shape for name, shape in ours.items() if CELL not in name} | cells


def _written(config: ModelConfig, params: Any, dtype: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of `torch_folder`, with each layer's cell in the layout of the library."""
    cell, layout, _ = cell_of(config)
    size = len(jax.eval_shape(cell.init, jax.random.key(0)))
    held: dict[str, Any] = {}
    for name, array in written(config, params, dtype):
        layer, inside, own = name.partition(CELL)
        if not inside:
            yield name, array
            continue
        held[own] = array
        if len(held) == size:
            yield from ((f"{layer}{CELL}{theirs}", x) for theirs, x in layout.write(cell, held).items())
            held = {}
