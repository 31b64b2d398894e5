"""The block-diagonal LRNN against its equations, one block after another in float64, and its matrices."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.mixers.block_lrnn import BlockLRNN, normalized
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, K = 16, 4


def mlp(p, u, first, second):
    return np.maximum(u @ p[f"w_{first}"] + p[f"b_{first}"], 0) @ p[f"w_{second}"] + p[f"b_{second}"]


def definition(p, x):
    """y (T, D) of one row x (T, D)."""
    h, y = [row.copy() for row in p["start"]], []
    for u in x:
        blocks, v = mlp(p, u, 1, 2).reshape(D // K, K, K), mlp(p, u, 3, 4).reshape(D // K, K)
        for g, block in enumerate(blocks):
            columns = [block[:, j] - block[:, j].mean() for j in range(K)]
            largest = max(np.sum(np.abs(c) ** 1.2) ** (1 / 1.2) for c in columns)
            h[g] = sum(h[g][j] * columns[j] / largest for j in range(K)) + v[g]
        flat = np.concatenate(h)
        normed = (flat - flat.mean()) / np.sqrt(flat.var() + 1e-5) * p["norm"] + p["norm_b"]
        y.append(normed @ p["w_o"] + p["b_o"])
    return np.stack(y)


def test_values_are_the_definition_s_and_documents_start_at_what_is_learned(close):
    mixer, x = BlockLRNN(D, block=K, hidden=20), inputs(D)
    params = drawn(mixer)
    reset = np.zeros(x.shape[:2], bool)
    reset[:, 9] = True
    y, _ = jax.jit(mixer.apply)({"params": params}, x, reset=reset)
    parts = [np.concatenate([definition(wide(params), part) for part in (row[:9], row[9:])]) for row in x]
    close(y, np.stack(parts))


def test_blocks_have_columns_of_mean_zero_and_the_largest_is_one(close):
    A = np.random.default_rng(0).normal(size=(5, 7, K, K))
    found = np.asarray(normalized(jnp.asarray(A, jnp.float32)), np.float64)
    np.testing.assert_allclose(found.sum(axis=-2), 0, atol=1e-6)
    close((np.abs(found) ** 1.2).sum(axis=-2).max(axis=-1), np.ones((5, 7)))


def test_a_block_of_equal_rows_is_zero_with_finite_derivatives():
    A = jnp.ones((K, K))
    np.testing.assert_array_equal(normalized(A), np.zeros((K, K)))
    assert bool(jnp.all(jnp.isfinite(jax.grad(lambda A: jnp.sum(normalized(A) ** 2))(A))))


def test_the_start_is_normal_and_biases_are_zero():
    params = initial(BlockLRNN(64, block=2, hidden=8))
    np.testing.assert_allclose(np.std(params["start"]), 1, rtol=0.25)
    for name in ("b_1", "b_2", "b_3", "b_4", "b_o"):
        assert not params[name].any()


def test_sizes_are_those_stated():
    mixer = BlockLRNN(D, block=K, hidden=20)
    assert count(mixer) == (D + 1) * 20 + 21 * D * K + 3 * (D**2 + D) + 3 * D
    assert state_bytes(mixer) == 4 * D + 4
