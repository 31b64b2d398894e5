"""State dicts of torch.nn.RNN, GRU and LSTM: one layer, one direction, with biases.

    weight_ih_l0 (gates D, d_input)   weight_hh_l0 (gates D, D)   bias_ih_l0, bias_hh_l0 (gates D)

with the gates stacked in our order and every matrix transposed. torch's two biases add up, except at the GRU's n,
where the second is inside the reset gate's product; what is one bias here is written as bias_ih_l0, with zeros in
bias_hh_l0.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxseq.cells import Cell, RecurrentCell
from jaxseq.cells.elman import Elman
from jaxseq.cells.gru import GRU
from jaxseq.cells.lstm import LSTM
from jaxseq.convert.layout import Layout, Params, StateDict, take


def _read(kind: type[RecurrentCell], tensors: StateDict) -> tuple[Cell, Params]:
    stacked = (len(kind.gates), "d_state")
    shapes: dict[str, Any] = {
        "weight_ih_l0": (stacked, "d_input"),
        "weight_hh_l0": (stacked, "d_state"),
        "bias_ih_l0": (stacked,),
        "bias_hh_l0": (stacked,),
    }
    arrays, sizes = take(tensors, shapes)
    w, r, b, b_r = (array.reshape(len(kind.gates), sizes["d_state"], *array.shape[1:]) for array in arrays.values())
    params = {"w": np.swapaxes(w, 1, 2)[:, None], "r": np.swapaxes(r, 1, 2)[:, None], "b": b + b_r}
    if kind is GRU:
        params |= {"b": np.concatenate([b[:2] + b_r[:2], b[2:]]), "b_r": b_r[2:]}
    return kind(sizes["d_input"], sizes["d_state"]), {name: jnp.asarray(value) for name, value in params.items()}


def _write(kind: type[RecurrentCell], cell: Any, params: Params) -> dict[str, np.ndarray]:
    if not isinstance(cell, kind):
        raise ValueError(f"cell must be a {kind.__name__}, got {type(cell).__name__}")
    if cell.recurrent != "dense" or cell.heads != 1:
        found = f"recurrent = {cell.recurrent!r}, heads = {cell.heads}"
        raise ValueError(f"cell must have recurrent = 'dense' and heads = 1 for torch, got {found}")
    w, r, b = (np.asarray(params[name]) for name in ("w", "r", "b"))
    inner = np.zeros_like(b)
    if kind is GRU:
        inner[2:] = params["b_r"]
    return {
        "weight_ih_l0": np.swapaxes(w[:, 0], 1, 2).reshape(-1, cell.d_input),
        "weight_hh_l0": np.swapaxes(r[:, 0], 1, 2).reshape(-1, cell.d_state),
        "bias_ih_l0": b.reshape(-1),
        "bias_hh_l0": inner.reshape(-1),
    }


LAYOUTS = {
    f"torch_{name}": Layout(partial(_read, kind), partial(_write, kind))
    for name, kind in (("rnn", Elman), ("gru", GRU), ("lstm", LSTM))
}
