"""Weights that cross to the authors' library and to torch, and what is refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.convert import cell_from_state_dict, cell_to_state_dict
from jaxseq.solvers import Sequential, solve

CELL_OF = {
    "pararnn_gru": CELLS["para_gru"](4, 6, heads=2),
    "pararnn_lstm": CELLS["para_lstm"](4, 6, heads=2),
    "torch_rnn": CELLS["elman"](4, 6),
    "torch_gru": CELLS["gru"](4, 6),
    "torch_lstm": CELLS["lstm"](4, 6),
}
GOLDEN_HEADS, GOLDEN_INPUT, GOLDEN_STATE, GOLDEN_TIME = 2, 4, 6, 4


def parameters(cell):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    return {name: jnp.asarray(rng.normal(size=like.shape), jnp.float32) for name, like in shapes.items()}


def formula(f, *shape):
    """An array from a formula of its indices."""
    return np.fromfunction(f, shape)


def golden_state_dict():
    """The weights that the authors' library (ml-pararnn, on the CPU in float64) was run with for the vectors below."""
    return {
        "A": formula(lambda v, j: 0.3 * (v + 1) - 0.1 * j, 3, GOLDEN_STATE),
        "B": formula(lambda p, i, v, j: 0.4 * (p + 1) - 0.3 * i + 0.2 * v - 0.1 * j, GOLDEN_HEADS, 2, 3, 3),
        "b": formula(lambda v, j: 0.05 * (v - j), 3, GOLDEN_STATE),
        "C": formula(lambda v, j: 0.2 * (v + 1) - 0.05 * j, 2, GOLDEN_STATE),
    }


@pytest.mark.parametrize(
    ("layout", "first", "last", "total"),
    [
        (
            "pararnn_gru",
            [0.1231998, 0.0812371, 0.0413524, 0.5799611, 0.5102033, 0.4326311],
            [0.8880271, 0.7915804, 0.6456103, 0.8355560, 0.7707406, 0.6868417],
            14.8056831,
        ),
        (
            "pararnn_lstm",
            [0.0650570, 0.0444919, 0.0234443, 0.2108432, 0.2108893, 0.2018996],
            [0.4686035, 0.4339727, 0.3725817, 0.3781208, 0.3507076, 0.3077265],
            7.3005698,
        ),
    ],
)
def test_the_states_are_those_of_the_authors_library(layout, first, last, total):
    tensors = golden_state_dict()
    if layout == "pararnn_gru":
        del tensors["C"]
    x = formula(lambda b, t, i: np.sin(0.7 * t + 0.3 * i), 1, GOLDEN_TIME, GOLDEN_INPUT)
    with jax.enable_x64(True):
        cell, params = cell_from_state_dict(layout, tensors)
        u = cell.inputs(params, jnp.asarray(x))
        h0 = jax.tree.map(lambda zero: zero.astype(jnp.float64), cell.init_state(1))
        y = np.asarray(cell.output(params, solve(cell, params, u, h0, solver=Sequential()).h, u))[0]
    digits = 1e-7  # seven are given
    np.testing.assert_allclose(y[0], first, rtol=0, atol=digits)
    np.testing.assert_allclose(y[-1], last, rtol=0, atol=digits)
    np.testing.assert_allclose(np.abs(y).sum(), total, rtol=0, atol=digits)


@pytest.mark.parametrize("layout", CELL_OF)
def test_parameters_come_back_bit_for_bit(layout):
    cell = CELL_OF[layout]
    params = parameters(cell)
    again, back = cell_from_state_dict(layout, cell_to_state_dict(layout, cell, params))
    assert again == cell
    assert {name: value.dtype for name, value in back.items()} == dict.fromkeys(params, np.float32)
    jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("layout", CELL_OF)
def test_a_missing_tensor_is_named(layout):
    tensors = cell_to_state_dict(layout, CELL_OF[layout], parameters(CELL_OF[layout]))
    *_, name = tensors
    del tensors[name]
    with pytest.raises(ValueError, match=f"state_dict must have the tensor {name}, got "):
        cell_from_state_dict(layout, tensors)


@pytest.mark.parametrize("layout", CELL_OF)
def test_an_unexpected_tensor_is_named(layout):
    tensors = cell_to_state_dict(layout, CELL_OF[layout], parameters(CELL_OF[layout]))
    with pytest.raises(ValueError, match="got the tensor weight_ih_l1"):
        cell_from_state_dict(layout, {**tensors, "weight_ih_l1": np.zeros((6, 6))})


@pytest.mark.parametrize(
    ("layout", "name", "shape"),
    [
        ("pararnn_gru", "b", (3, 5)),
        ("pararnn_gru", "B", (2, 2, 4, 3)),
        ("pararnn_gru", "B", (2, 2, 3, 4)),
        ("pararnn_lstm", "C", (3, 6)),
        ("torch_rnn", "weight_hh_l0", (6, 5)),
        ("torch_gru", "bias_hh_l0", (12,)),
        ("torch_lstm", "weight_ih_l0", (18, 4)),
        ("torch_lstm", "weight_ih_l0", (24, 4, 1)),
    ],
)
def test_a_tensor_of_another_shape_is_named(layout, name, shape):
    tensors = cell_to_state_dict(layout, CELL_OF[layout], parameters(CELL_OF[layout]))
    with pytest.raises(ValueError, match=f"{name} must .*{re.escape(str(shape))}"):
        cell_from_state_dict(layout, {**tensors, name: np.zeros(shape)})


@pytest.mark.parametrize(
    ("layout", "cell", "message"),
    [
        ("torch_tcn", CELLS["gru"](4, 6), "layout must be one of .*torch_gru.*, got 'torch_tcn'"),
        ("torch_lstm", CELLS["gru"](4, 6), "cell must be a LSTM, got GRU"),
        ("pararnn_lstm", CELLS["para_gru"](4, 6), "cell must be a ParaLSTM, got ParaGRU"),
        ("torch_gru", CELLS["gru"](4, 6, heads=2), "for torch, got recurrent = 'dense', heads = 2"),
        ("torch_gru", CELLS["gru"](4, 6, recurrent="diagonal"), "for torch, got recurrent = 'diagonal', heads = 1"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(layout, cell, message):
    with pytest.raises(ValueError, match=message):
        cell_to_state_dict(layout, cell, parameters(cell))


def test_an_unknown_layout_is_refused_when_read():
    with pytest.raises(ValueError, match=r"layout must be one of .*pararnn_gru.*, got 'pararnn'"):
        cell_from_state_dict("pararnn", {})
