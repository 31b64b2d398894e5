"""DropConnect: one mask of the recurrent weights for a whole call."""

import jax
import numpy as np
import pytest

from jaxseq.cells import CELLS, drop_connect

LSTM = CELLS["lstm"](2, 40)


@pytest.fixture(scope="module")
def params():
    return jax.jit(LSTM.init)(jax.random.key(0))


def test_a_share_of_the_recurrent_weights_is_zero_and_the_rest_scaled(params, close):
    dropped = np.asarray(drop_connect(LSTM, params, jax.random.key(1), 0.3)["r"])
    kept = dropped != 0
    assert np.mean(kept) == pytest.approx(0.7, abs=0.02)
    close(dropped[kept], np.asarray(params["r"], np.float64)[kept] / 0.7)


def test_gates_are_masked_independently(params):
    kept = np.asarray(drop_connect(LSTM, params, jax.random.key(1), 0.5)["r"]) != 0
    agreement = np.mean(kept[0] == kept[1])
    assert agreement == pytest.approx(0.5, abs=0.06)


def test_other_parameters_are_as_they_were(params):
    dropped = drop_connect(LSTM, params, jax.random.key(1), 0.3)
    assert {name for name in params if dropped[name] is params[name]} == {"w", "b"}


def test_one_key_gives_one_mask_and_another_key_another(params):
    one, same, other = (drop_connect(LSTM, params, jax.random.key(seed), 0.3)["r"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


def test_nothing_changes_at_rate_zero(params):
    jax.tree.map(np.testing.assert_array_equal, drop_connect(LSTM, params, jax.random.key(1), 0.0), params)


def test_dropped_weights_have_no_gradient(params):
    def total(params):
        return drop_connect(LSTM, params, jax.random.key(1), 0.5)["r"].sum()

    gradient = np.asarray(jax.grad(total)(params)["r"])
    kept = np.asarray(drop_connect(LSTM, params, jax.random.key(1), 0.5)["r"]) != 0
    np.testing.assert_array_equal(gradient, np.where(kept, 2, 0))


@pytest.mark.parametrize("name", ["para_gru", "ind_rnn"])
def test_vectors_of_channelwise_cells_are_dropped_too(name):
    shapes = jax.eval_shape(CELLS[name](2, 40).init, jax.random.key(0))
    params = {key: np.ones(like.shape, np.float32) for key, like in shapes.items()}
    dropped = drop_connect(CELLS[name](2, 40), params, jax.random.key(1), 0.5)
    assert 0.2 < np.mean(np.asarray(dropped["a"]) == 0) < 0.8


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_wrong_rate_is_named(params, rate):
    with pytest.raises(ValueError, match=f"rate must be at least 0 and below 1, got {rate}"):
        drop_connect(LSTM, params, jax.random.key(1), rate)


def test_a_cell_without_recurrent_weights_is_named():
    cell = CELLS["min_gru"](2, 4)
    with pytest.raises(ValueError, match=r"cell must have recurrent weights \(r or a\), got MinGRU"):
        drop_connect(cell, {"w": np.ones((2, 1, 2, 4)), "b": np.ones((2, 4))}, jax.random.key(1), 0.5)
