"""HGRN2 against its equations, one step and head after another in float64, and its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.base import Depth
from jaxseq.mixers.hgrn2 import HGRN2
from jaxseq.ops.bounded_gate import bounds_by_depth
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, K = 16, 4


def definition(p, x, bound):
    """y (T, D) of one row x (T, D): a state is a list of its K rows."""
    S, y = np.zeros((D, K)), []
    for u in x:
        f = bound + (1 - bound) * expit(u @ p["w_f"])
        q, v, o = u @ p["w_q"], u @ p["w_i"], np.zeros(D)
        q = q * expit(q)
        for head in range(D // K):
            at = slice(head * K, head * K + K)
            for row in range(head * K, head * K + K):
                S[row] = f[row] * S[row] + (1 - f[row]) * v[at]
                o[at] += q[row] * S[row]
        y.append(o / np.sqrt(np.mean(o**2) + 1e-6) * p["norm"] @ p["w_o"])
    return np.stack(y)


@pytest.mark.parametrize("bounded", [True, False])
def test_values_are_the_definition_s(bounded, close):
    mixer, x = HGRN2(D, head_dim=K), inputs(D)
    params, bound = drawn(mixer), np.linspace(0.0, 0.95, D) if bounded else np.zeros(D)
    depth = Depth(jnp.int32(1), 3, jnp.asarray(bound, jnp.float32)) if bounded else None
    y = jax.jit(lambda x: mixer.apply({"params": params}, x, depth=depth)[0])(x)
    close(y, np.stack([definition(wide(params), row, bound) for row in x.astype(np.float64)]))


def test_a_layer_s_row_is_its_bound(close):
    table = jnp.asarray(np.random.default_rng(0).normal(size=(5, D)), jnp.float32)
    close(HGRN2(D).rows(table), bounds_by_depth(table))


def test_maps_start_at_the_scale_of_their_inputs():
    params = initial(HGRN2(64))
    for name in ("w_f", "w_q", "w_i", "w_o"):
        np.testing.assert_allclose(np.std(params[name]), 1 / 8, rtol=0.05)
    np.testing.assert_array_equal(params["norm"], np.ones(64))


def test_sizes_are_those_stated():
    mixer = HGRN2(D, head_dim=K)
    assert count(mixer) == 4 * D**2 + D
    assert mixer.table_width() == D
    assert state_bytes(mixer) == 4 * K * D
    assert state_bytes(HGRN2(1024)) == 4 * 128 * 1024
