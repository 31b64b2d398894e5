"""Cells in the layout of the ParaRNN authors' library beside ours: their equations, one step after another in float64.

The library itself is not run: it needs its own build for CUDA. With A, B, b, C as in `pararnn`, σ the logistic function
and u_v = B_v x + b_v for each gate v (arXiv 2510.21450, section 3.1):

    GRUDiagMH        z = σ(A_z h + u_z);  r = σ(A_r h + u_r);  h' = (1 - z) h + z tanh(A_c h r + u_c)
    LSTMCIFGDiagMH   f = σ(A_f h + u_f + C_f c);  c' = f c + (1 - f) tanh(A_n h + u_n)
                     o = σ(A_o h + u_o + C_o c');  h' = o tanh(c')
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseq.cells import Cell
from jaxseq.convert.architecture import mixer_of
from jaxseq.convert.pararnn_folder import CELL, cell_of, cell_tensors, layers_of, read_pararnn
from jaxseq.convert.tensors import Tensors
from jaxseq.convert.verify import FLOAT32, ROWS, TIME, Deviation
from jaxseq.mixers.para_rnn import ParaRNN
from jaxseq.model import LanguageModel
from jaxseq.sharding import make_mesh
from jaxseq.solvers import solve


def compare_pararnn(folder: Path, model: LanguageModel, params: Any) -> Iterator[Deviation]:
    """Our model and a folder with cells in the library's layout.

    For each `para_rnn` layer the largest deviation of the cell's outputs, in float32 by the model's solver, from their
    equations with the folder's tensors in float64, relative to the largest one; and how many parameters differ from
    those that are read back.
    """
    config, tensors = model.config, Tensors(folder)
    cell, _, name = cell_of(config)
    x = np.random.default_rng(0).normal(size=(ROWS, TIME, cell.d_input)).astype(np.float32)
    run = jax.jit(partial(_outputs, cell, mixer_of(config, "para_rnn", ParaRNN).make_solver()))
    for layer in layers_of(config):
        repeat, i = divmod(layer, len(config.pattern))
        ours = jax.tree.map(lambda p, r=repeat: p[r], params["layers"][f"block_{i}"]["mixer"]["cell"])
        theirs = {own: t.astype(np.float64) for own, t in cell_tensors(tensors, f"layers.{layer}{CELL}").items()}
        exact = STEPPED[name](theirs, x.astype(np.float64))
        found = np.max(np.abs(np.asarray(run(ours, x), np.float64) - exact)) / np.max(np.abs(exact))
        yield Deviation(f"float32, {name} of layer {layer}", float(found), FLOAT32)
    _, again = read_pararnn(folder, make_mesh(devices=jax.devices()[:1]))
    differ = jax.tree.map(lambda a, b: float(np.sum(np.asarray(a) != np.asarray(b))), again, params)
    yield Deviation("float32, parameters that differ", sum(jax.tree.leaves(differ)), 0)


def _outputs(cell: Cell, solver: Any, params: Any, x: jax.Array) -> jax.Array:
    u = cell.inputs(params, x)
    return cell.output(params, solve(cell, params, u, solver=solver).h, u)


def _gru(t: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """h (B, T, D) of x (B, T, d_input)."""
    u, h, states = _inputs(t, x), np.zeros((x.shape[0], t["A"].shape[1])), []
    for z, r, c in zip(*u, strict=True):
        z, r = _sigmoid(t["A"][0] * h + z), _sigmoid(t["A"][1] * h + r)
        h = (1 - z) * h + z * np.tanh(t["A"][2] * h * r + c)
        states.append(h)
    return np.stack(states, axis=1)


def _lstm(t: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """h (B, T, D) of x (B, T, d_input)."""
    u, h, states = _inputs(t, x), np.zeros((x.shape[0], t["A"].shape[1])), []
    c = h
    for f, o, n in zip(*u, strict=True):
        f = _sigmoid(t["A"][0] * h + f + t["C"][0] * c)
        c = f * c + (1 - f) * np.tanh(t["A"][2] * h + n)
        h = _sigmoid(t["A"][1] * h + o + t["C"][1] * c) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


STEPPED = {"GRUDiagMH": _gru, "LSTMCIFGDiagMH": _lstm}


def _inputs(t: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """u (3, T, B, D): head by head, B (heads, d_input / heads, 3, D / heads)."""
    parts = x.reshape(*x.shape[:2], t["B"].shape[0], -1)
    u = np.einsum("bthi,hivj->vtbhj", parts, t["B"])
    return u.reshape(*u.shape[:3], -1) + t["b"][:, None, None]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
