"""Initial parameters, where a paper or its authors' code fixes them."""

import jax
import numpy as np
import pytest

from jaxseq.cells import CELLS


def start(name, d_input, d_state, **fields):
    """Initial parameters."""
    return jax.jit(CELLS[name](d_input, d_state, **fields).init)(jax.random.key(0))


def test_para_lstm_starts_as_its_paper_says():
    params = start("para_lstm", 64, 128, heads=4)
    bound = np.sqrt(3 / 16)
    assert {name: value.shape for name, value in params.items()} == {
        "a": (3, 128),
        "p": (2, 128),
        "w": (3, 4, 16, 32),
        "b": (3, 128),
    }
    assert np.abs(params["w"]).max() <= bound
    np.testing.assert_allclose(np.std(params["w"]), bound / np.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(np.std(params["a"]), 128**-0.5, rtol=0.1)
    np.testing.assert_allclose(np.std(params["p"]), 128**-0.5, rtol=0.1)
    assert np.all(params["b"] == 0)


@pytest.mark.parametrize("name", ["gru", "scrn", "peephole_lstm"])
def test_recurrent_weights_are_uniform_within_one_over_the_root_of_a_heads_width(name):
    params = start(name, 8, 128, heads=2)
    for weights in (params["w"], params["r"]):
        assert np.abs(weights).max() <= 1 / 8
        np.testing.assert_allclose(np.std(weights), 1 / 8 / np.sqrt(3), rtol=0.03)


def test_flax_gru_has_lecun_normal_input_maps():
    w = start("flax_gru", 64, 128, heads=2)["w"]
    np.testing.assert_allclose(np.std(w), 32**-0.5, rtol=0.03)


@pytest.mark.parametrize(("depth", "middle"), [(0.0, 5 - 12 * (50 / 100) ** 0.3), (1.0, 5 - 12 * (50 / 100) ** 1.6)])
def test_the_forget_bias_of_slstm_falls_from_five_to_minus_seven_in_every_head(depth, middle):
    params = start("slstm", 50, 202, heads=2, depth=depth)
    i, f, z, o = np.asarray(params["b"])
    for head in f.reshape(2, 101):
        np.testing.assert_allclose([head[0], head[50], head[100]], [5, middle, -7], rtol=1e-6)
    assert not np.any([i, z, o])
    assert not np.any(params["r"])
    np.testing.assert_allclose(np.std(params["w"]), np.sqrt(2 / 5 / 50), rtol=0.03)


def test_slstm_may_have_heads_of_one_channel():
    np.testing.assert_array_equal(start("slstm", 2, 2, heads=2)["b"][1], [5, 5])


@pytest.mark.parametrize(("name", "deviation"), [("elstm", 0.1), ("qlstm", 0.02), ("block_lstm", 0.02)])
def test_weights_are_normal_of_the_published_deviation(name, deviation):
    params = start(name, 100, 100)
    for weights in params.values():
        if weights.ndim > 2:
            np.testing.assert_allclose(np.std(weights), deviation, rtol=0.03)


def test_unicornn_starts_with_positive_weights_and_time_scales_near_one_half():
    params = start("unicornn", 10, 1000)
    assert 0 <= params["a"].min() < 0.01
    assert 0.99 < params["a"].max() <= 1
    assert 0.099 < np.abs(params["c"]).max() <= 0.1
    assert 0.99 < np.abs(params["w"]).max() / np.sqrt(6 / 650) <= 1


def test_ind_rnn_starts_with_recurrent_weights_between_zero_and_one():
    a = start("ind_rnn", 10, 1000)["a"]
    assert 0 <= a.min() < 0.01
    assert 0.99 < a.max() <= 1


def test_the_learned_constants_start_where_the_papers_have_them():
    assert start("janet", 2, 2)["beta"] == 1
    assert start("scrn_torchrecurrent", 2, 2)["alpha"] == np.float32(0.95)
