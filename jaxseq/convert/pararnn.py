"""State dicts of the ParaRNN authors' library (ml-pararnn): GRUDiagMH and LSTMCIFGDiagMH.

    A (3, D)   B (heads, d_input / heads, 3, D / heads)   b (3, D)   C (2, D)

with gates z, r, c in the GRU, as here, and f, o, z in the LSTM, where they are f, z, o here; C's rows are f, o.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np

from jaxseq.cells import Cell
from jaxseq.cells.paragru import ParaGRU
from jaxseq.cells.paralstm import ParaLSTM
from jaxseq.convert.layout import Layout, Params, StateDict, take

GRU_GATES, LSTM_GATES = (0, 1, 2), (0, 2, 1)  # where a gate of ours is among theirs, and one of theirs among ours


def _read(kind: type[Cell], gates: Sequence[int], peepholes: bool, tensors: StateDict) -> tuple[Cell, Params]:
    shapes = {"A": (3, "d_state"), "B": ("heads", "head_input", 3, "head_state"), "b": (3, "d_state")}
    arrays, sizes = take(tensors, {**shapes, **({"C": (2, "d_state")} if peepholes else {})})
    if sizes["heads"] * sizes["head_state"] != sizes["d_state"]:
        raise ValueError(f"B must have heads x head_state = d_state = {sizes['d_state']}, got {arrays['B'].shape}")
    params = {
        "a": jnp.asarray(arrays["A"][list(gates)]),
        "w": jnp.asarray(np.moveaxis(arrays["B"], 2, 0)[list(gates)]),
        "b": jnp.asarray(arrays["b"][list(gates)]),
    }
    if peepholes:
        params["p"] = jnp.asarray(arrays["C"])
    return kind(sizes["heads"] * sizes["head_input"], sizes["d_state"], sizes["heads"]), params


def _write(kind: type[Cell], gates: Sequence[int], cell: Cell, params: Params) -> dict[str, np.ndarray]:
    if not isinstance(cell, kind):
        raise ValueError(f"cell must be a {kind.__name__}, got {type(cell).__name__}")
    a, w, b = (np.asarray(params[name])[list(gates)] for name in ("a", "w", "b"))
    tensors = {"A": a, "B": np.moveaxis(w, 0, 2), "b": b}
    return {**tensors, "C": np.asarray(params["p"])} if "p" in params else tensors


LAYOUTS = {
    "pararnn_gru": Layout(partial(_read, ParaGRU, GRU_GATES, False), partial(_write, ParaGRU, GRU_GATES)),
    "pararnn_lstm": Layout(partial(_read, ParaLSTM, LSTM_GATES, True), partial(_write, ParaLSTM, LSTM_GATES)),
}
