"""The cells of torchrecurrent 0.2.5 (MIT): which tensor of a state dict holds which of our parameters.

Each tensor stacks blocks, the rows of one gate after the other; a block is named by where it goes, "r.z" is the row of
gate z in parameter r, "p.0" the first row of p, and "alpha" a parameter as it is. A matrix is (outputs, inputs) there
and (heads = 1, inputs, outputs) here. Blocks of the same name add up: there is a bias on each side of most sums, of
which one is enough; written, it is all on the first side.

A state dict holds no hyperparameters: a cell is read with torchrecurrent's defaults, and `dataclasses.replace` gives it
others. The tensors are a cell's: those of a layer have "cells.0." before their names. All cells that torchrecurrent
exports are here; its recurrent highway cell, which it does not, is not.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.cells import CELLS, Cell
from jaxseq.convert.layout import Dim, Layout, Params, StateDict, take

# Where a parameter's rows have other names than the cell's gates.
ROWS = {"r": "recurrent_gates", "b": "biases", "b_r": "recurrent_biases", "m": "memory_gates"}


class Tensors(NamedTuple):
    """The blocks of every tensor by its name, and the fields of our cell that give torchrecurrent's defaults."""

    blocks: dict[str, str]
    fields: dict[str, Any]


def _gated(w: str, r: str | None = None, *, fields: dict[str, Any] | None = None, **others: str) -> Tensors:
    """The four usual tensors from the gates of the rows of weight_ih and weight_hh (None: the same), then others."""
    gates = {"w": w.split(), "r": (w if r is None else r).split()}
    usual = {
        "weight_ih": " ".join(f"w.{gate}" for gate in gates["w"]),
        "weight_hh": " ".join(f"r.{gate}" for gate in gates["r"]),
        "bias_ih": " ".join(f"b.{gate}" for gate in gates["w"]),
        "bias_hh": " ".join(f"b.{gate}" for gate in gates["r"]),
    }
    return Tensors({**usual, **others}, fields or {})


TABLE = {
    "antisymmetric_rnn": _gated("h"),
    "atr": _gated("p", "q", bias_hh="b_r.q"),
    "br": _gated("a c h", "a c"),
    "cfn": _gated("theta eta c", "theta eta"),
    "cornn": _gated("z", "y", weight_ch="r.z", bias_hh="b.z", bias_ch="b.z"),
    "dsgu": _gated("g z", bias_hh="b_r.g b.z", weight_ho="m.o"),
    "fast_grnn": _gated("p", bias_ih="b.z b.n", bias_hh="b.z b.n", zeta="zeta", nu="nu", fields={"gate": "tanh"}),
    "fast_rnn": _gated("h", alpha="alpha", beta="beta"),
    "gated_antisymmetric_rnn": _gated("z h", "h"),
    "ind_rnn": Tensors(
        {"weight_ih": "w.h", "vector_u": "a.0", "bias_ih": "b.h", "bias_hh": "b.h"}, {"nonlinearity": "tanh"}
    ),
    "intersection_rnn": _gated("y h gy gh"),
    "janet": _gated("f c", beta="beta"),
    "lem_stale": _gated("dt_bar dt z y", "dt_bar dt z", weight_ch="r.y", bias_ch="b.y"),
    "light_ru": _gated("n f", "f"),
    "ligru": _gated("z h"),
    "mclstm": _gated("f i o m n"),
    "mgu": _gated("f h"),
    "minimal_rnn": _gated("z", "g", weight_mm="m.g", bias_hh="b_r.g"),
    "miru1": _gated("r h"),
    "miru2": _gated("h"),
    "multiplicative_lstm": _gated(
        "m i f g o", "m", weight_mh="m.i m.f m.g m.o", bias_hh="b_r.m", bias_mh="b.i b.f b.g b.o"
    ),
    "mut1": _gated("z r n", "r n", bias_hh="b.r b_r.n"),
    "mut2": _gated("z r n"),
    "mut3": _gated("z r n"),
    "nas": _gated("p0 p1 p2 p3 p4 p5 p6 p7"),
    "nbr": _gated("a c h", "a c"),
    "original_lstm": _gated("i g o"),
    "peephole_lstm": _gated("i f g o", weight_ph="p.0 p.1 p.2"),
    "ran": _gated("c i f", "i f", bias_ih="b.i b.f"),
    "res_lstm": _gated("i f g o", weight_ph="p.0 p.1 p.2", weight_proj="m.h", weight_res="s.0"),
    "scrn_torchrecurrent": _gated("s h", "r u", weight_ch="r.p r.v", bias_hh="b.h by", bias_ch="b.h by", alpha="alpha"),
    "sgrn": _gated("p", "f", bias_hh="b_r.f"),
    "sgu": _gated("g z", bias_hh="b_r.g b.z"),
    "star": _gated("z k", "k"),
    "t_gru": _gated("z f o", weight_hh="v.z v.f v.o"),
    "t_lstm": _gated("z f o", weight_hh="v.z v.f v.o"),
    "t_rnn": Tensors({"weight_ih": "w.z w.f", "bias_ih": "b.z b.f"}, {}),
    "tau_gru": _gated("u z g a"),
    "ug_rnn": _gated("n g"),
    "unicornn": Tensors(
        {"weight_ih": "w.z", "weight_hh": "a.0", "weight_ch": "c.0", "bias_ih": "b.z", "bias_hh": "b.z"}, {}
    ),
    "wmclstm": _gated("i f g o", weight_mh="m.i m.f m.o", bias_mh="b_r.i b_r.f b_r.o"),
}


def _read(name: str, state_dict: StateDict) -> tuple[Cell, Params]:
    """See `Layout`; parameters are float32, or float64 if a tensor is and jax has float64 enabled."""
    blocks, fields = TABLE[name]
    first: dict[str, tuple[Dim, ...]] = {"weight_ih": ((len(blocks["weight_ih"].split()), "d_state"), "d_input")}
    _, sizes = take({key: tensor for key, tensor in state_dict.items() if key in first}, first)
    cell = CELLS[name](sizes["d_input"], sizes["d_state"], **fields)
    params = {key: np.full(shape, -0.0) for key, shape in _shapes(cell).items()}  # -0 + x is x, for x = -0 too
    views = {key: [_view(cell, params, block) for block in names.split()] for key, names in blocks.items()}
    tensors, _ = take(state_dict, {key: _stack(parts).shape for key, parts in views.items()})
    for key, parts in views.items():
        for view, block in zip(parts, tensors[key].reshape(len(parts), *parts[0].shape), strict=True):
            view += block
    dtype = np.result_type(np.float32, *tensors.values())
    return cell, {key: jnp.asarray(value.astype(dtype)) for key, value in params.items()}


def _write(name: str, cell: Cell, params: Params) -> dict[str, np.ndarray]:
    """See `Layout`; ValueError if the cell or a parameter's shape is not that of the layout."""
    blocks, fields = TABLE[name]
    if type(cell) is not CELLS[name]:
        raise ValueError(f"cell must be of class {CELLS[name].__name__}, got {type(cell).__name__}")
    arrays = {key: np.asarray(value) for key, value in params.items()}
    for key, shape in _shapes(CELLS[name](cell.d_input, cell.d_state, **fields)).items():
        if arrays[key].shape != shape:
            raise ValueError(f"params[{key!r}] must have shape {shape}, one head, got {arrays[key].shape}")
    state_dict, written = {}, set()
    for key, names in blocks.items():
        views = {block: _view(cell, arrays, block) for block in names.split()}
        state_dict[key] = _stack([np.zeros_like(x) if block in written else x for block, x in views.items()])
        written.update(views)
    return state_dict


def _shapes(cell: Cell) -> dict[str, tuple[int, ...]]:
    return {key: like.shape for key, like in jax.eval_shape(cell.init, jax.random.key(0)).items()}


def _view(cell: Cell, params: dict[str, np.ndarray], block: str) -> np.ndarray:
    """The part of params that a block names, without a copy, and as torchrecurrent has it."""
    name, _, row = block.partition(".")
    value = params[name][_index(cell, name, row)] if row else params[name]
    return value[0].T if value.ndim == 3 else value


def _index(cell: Any, name: str, row: str) -> int:
    """The number of a row of a parameter."""
    names = getattr(cell, ROWS.get(name, "gates"), None) or cell.gates
    return int(row) if row.isdigit() else names.index(row)


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if len(parts) > 1 else np.array(parts[0])


LAYOUTS = {f"torchrecurrent_{name}": Layout(partial(_read, name), partial(_write, name)) for name in TABLE}
