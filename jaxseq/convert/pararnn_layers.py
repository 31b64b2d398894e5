"""The cells of a whole model's `para_rnn` layers as state dicts of the ParaRNN authors' library, a file per layer.

    folder/layer_0.safetensors    what GRUDiagMH (or LSTMCIFGDiagMH) of the first layer loads: A, B, b (and C)

Only cells: how the authors name what is around a cell in their language models is not published with the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.cells import Cell
from jaxseq.cells.paragru import ParaGRU
from jaxseq.cells.paralstm import ParaLSTM
from jaxseq.convert.architecture import mixer_of
from jaxseq.convert.layout import Layout
from jaxseq.convert.pararnn import LAYOUTS
from jaxseq.mixers.para_rnn import ParaRNN
from jaxseq.model import ModelConfig


def write_cells(folder: Path, config: ModelConfig, params: Any) -> None:
    """Writes the cell of layer n to layer_n.safetensors, for each `para_rnn` layer.

    Raises ValueError for a model without such layers, and for a cell that the library has not.
    """
    from safetensors.numpy import save_file

    cell, layout = _cell(config)
    for layer, block, repeat in _layers(config):
        tree = params["layers"][block]["mixer"]["cell"]
        tensors = layout.write(cell, jax.tree.map(lambda x, r=repeat: np.asarray(x[r]), tree))
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / _file(layer))


def read_cells(folder: str | Path, config: ModelConfig, params: Any) -> Any:
    """The model's parameters with the cells of all its `para_rnn` layers from such files, the rest as it is.

    Raises FileNotFoundError for a layer without a file; ValueError as `write_cells`, and for tensors that are not the
    cell's, by their names, or of another size than the model's.
    """
    from safetensors.numpy import load_file

    cell, layout = _cell(config)
    found: dict[str, list[Any]] = {}
    for layer, block, _ in _layers(config):
        path = Path(folder) / _file(layer)
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: {path.name} is not there, for layer {layer}")
        theirs, read = layout.read(load_file(path))
        sizes = (theirs.d_input, theirs.d_state, theirs.heads)
        if sizes != (cell.d_input, cell.d_state, cell.heads):
            wanted = (cell.d_input, cell.d_state, cell.heads)
            raise ValueError(f"{path.name} must have d_input, d_state, heads = {wanted}, got {sizes}")
        found.setdefault(block, []).append(read)
    layers = dict(params["layers"])
    for block, cells in found.items():
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *cells)
        layers[block] = {**layers[block], "mixer": {**layers[block]["mixer"], "cell": stacked}}
    return {**params, "layers": layers}


def _file(layer: int) -> str:
    return f"layer_{layer}.safetensors"


def _layers(config: ModelConfig) -> list[tuple[int, str, int]]:
    """(layer, its block of the pattern, its repeat) of the `para_rnn` layers, from the input on."""
    names = enumerate(config.pattern * config.repeats)
    n = len(config.pattern)
    return [(layer, f"block_{layer % n}", layer // n) for layer, name in names if name == "para_rnn"]


def _cell(config: ModelConfig) -> tuple[Cell, Layout]:
    if "para_rnn" not in config.pattern:
        raise ValueError(f"model.pattern must have para_rnn, got {', '.join(config.pattern)}")
    cell = mixer_of(config, "para_rnn", ParaRNN).make_cell()
    names = {ParaGRU: "pararnn_gru", ParaLSTM: "pararnn_lstm"}
    if type(cell) not in names:
        raise ValueError(f"para_rnn.cell must be para_gru or para_lstm for ml-pararnn, got {type(cell).__name__}")
    return cell, LAYOUTS[names[type(cell)]]
