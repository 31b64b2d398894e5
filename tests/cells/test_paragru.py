"""What ParaGRU promises beyond the cell contract."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.solvers import solve

ParaGRU = CELLS["para_gru"]


@pytest.fixture(scope="module")
def params():
    return jax.jit(ParaGRU(64, 128, heads=4).init)(jax.random.key(0))


def test_shapes_are_gates_by_heads(params):
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {"a": (3, 128), "w": (3, 4, 16, 32), "b": (3, 128)}


def test_w_is_uniform_within_its_bound(params):
    bound = np.sqrt(3 / 16)
    assert np.abs(params["w"]).max() <= bound
    np.testing.assert_allclose(np.std(params["w"]), bound / np.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(np.mean(params["w"]), 0, atol=0.02)


def test_a_is_normal_of_deviation_one_over_the_root_of_the_width_and_b_is_zero(params):
    np.testing.assert_allclose(np.std(params["a"]), 128**-0.5, rtol=0.1)
    assert np.all(params["b"] == 0)


def test_a_is_cut_at_nine_tenths():
    a = np.concatenate([ParaGRU(1, 1).init(jax.random.key(i))["a"].ravel() for i in range(40)])
    assert 0.8 < np.abs(a).max() <= 0.9


def test_states_stay_in_minus_one_to_one_whatever_the_weights(params):
    rng = np.random.default_rng(0)
    cell = ParaGRU(64, 128, heads=4)
    loud = jax.tree.map(lambda x: 20 * x + jnp.asarray(rng.normal(size=x.shape), np.float32), params)
    u = cell.inputs(loud, jnp.asarray(rng.normal(size=(2, 50, 64)), np.float32))
    h = solve(cell, loud, u, jnp.asarray(rng.choice([-1.0, 1.0], (2, 128)), np.float32)).h
    assert 0.99 < float(jnp.max(jnp.abs(h))) <= 1


def test_a_head_sees_its_own_inputs_alone(params):
    cell = ParaGRU(64, 128, heads=4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 64)), np.float32)
    changed = x.at[:, :, 16:32].add(1.0)
    for before, after in zip(cell.inputs(params, x), cell.inputs(params, changed), strict=True):
        differs = np.any(np.asarray(before != after), axis=(0, 1))
        np.testing.assert_array_equal(differs, (np.arange(128) >= 32) & (np.arange(128) < 64))


def test_inputs_are_x_times_w_plus_b(params, close):
    cell = ParaGRU(64, 128, heads=4)
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(2, 3, 64)).astype(np.float32), rng.normal(size=(3, 128)).astype(np.float32)
    u = cell.inputs({**params, "b": jnp.asarray(b)}, jnp.asarray(x))
    for gate in range(3):
        dense = np.zeros((64, 128))
        for head in range(4):
            dense[16 * head : 16 * head + 16, 32 * head : 32 * head + 32] = params["w"][gate, head]
        close(u[gate], x.astype(np.float64) @ dense + b[gate])


def test_inputs_of_bfloat16_are_summed_in_float32(params, close):
    cell = ParaGRU(64, 128, heads=4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 64)), jnp.bfloat16)
    for narrow, wide in zip(cell.inputs(params, x), cell.inputs(params, x.astype(jnp.float32)), strict=True):
        assert narrow.dtype == jnp.float32
        close(narrow, wide, "bfloat16")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((6, 6, 4), "heads = 4 must divide d_input = 6 and d_state = 6"),
        ((8, 6, 4), "heads = 4 must divide d_input = 8 and d_state = 6"),
        ((0, 6, 1), "d_input must be at least 1, got 0"),
        ((6, -6, 1), "d_state must be at least 1, got -6"),
        ((6, 6, 0), "heads must be at least 1, got 0"),
    ],
)
def test_wrong_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ParaGRU(*sizes)
