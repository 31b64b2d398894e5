"""The first xLSTM's mLSTM block against its equations, one step after another in float64 without any units."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from scipy.special import expit

from jaxseq.mixers.base import Depth
from jaxseq.mixers.mlstm_block import MLSTMBlock
from tests.mixers.oracle import assert_near, inputs, stepped
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, E, H, P, BLOCK = 16, 12, 2, 6, 3


def silu(x):
    return x * expit(x)


def blocks(w, x):
    """x (E) by the blocks of w on the diagonal of an (E, E) matrix."""
    full = np.zeros((E, E))
    for j in range(len(w)):
        full[j * BLOCK : (j + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = w[j]
    return x @ full


def definition(params, x):
    """y (T, D) of one row x (T, D)."""
    p = wide(params)
    before = np.zeros((4, E))  # the convolution's inputs, the newest last
    S, n, ys = np.zeros((H, P, P)), np.zeros((H, P)), []
    for token in x:
        u, z = token @ p["w_x"], token @ p["w_z"]
        before = np.vstack([before[1:], u])
        c = silu(np.sum(before * p["conv_w"], axis=0) + p["conv_b"])
        q, k, v = blocks(p["w_q"], c), blocks(p["w_k"], c), blocks(p["w_v"], u)
        all_three = np.concatenate([q, k, v])
        i, f = (all_three @ p[f"w_{g}"].reshape(3 * E, H) + p[f"b_{g}"] for g in "if")
        q, k, v = (y.reshape(H, P) for y in (q, k, v))
        h = np.zeros((H, P))
        for head in range(H):
            key = k[head] / np.sqrt(P)
            S[head] = expit(f[head]) * S[head] + np.exp(i[head]) * np.outer(key, v[head])
            n[head] = expit(f[head]) * n[head] + np.exp(i[head]) * key
            h[head] = S[head].T @ q[head] / max(abs(n[head] @ q[head]), 1)
            h[head] = (h[head] - np.mean(h[head])) / np.sqrt(np.var(h[head]) + 1e-5)
        ys.append(((h.reshape(E) * p["norm"] + p["skip"] * c) * silu(z)) @ p["w_o"])
    return np.stack(ys)


@pytest.fixture(scope="module")
def case():
    """Our mixer, its variables, x, and what the definition makes of x."""
    mixer, x = MLSTMBlock(D, inner=E, heads=H, block=BLOCK), inputs(D)
    params = drawn(mixer)
    params |= {name: params[name] / E**0.5 for name in ("w_i", "w_f")}  # sums over 3 E numbers
    return mixer, {"params": params}, x, np.stack([definition(params, row.astype(np.float64)) for row in x])


def test_values_are_the_definition_s(case, close):
    mixer, variables, x, wanted = case
    close(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_definition_s(case):
    mixer, variables, x, wanted = case
    assert_near(stepped(mixer, variables, x), wanted)


def test_gates_know_nothing_of_the_input_at_first():
    params = initial(MLSTMBlock(D))
    assert not np.any(params["w_i"])
    assert not np.any(params["w_f"])
    assert 0 < np.max(np.abs(params["b_i"])) < 0.5
    np.testing.assert_allclose(params["b_f"], [3, 4, 5, 6])


def test_the_way_out_starts_smaller_in_a_deeper_stack():
    def way_out(layers):
        variables = MLSTMBlock(D).init(jax.random.key(0), jnp.zeros((1, 2, D)), depth=Depth(jnp.int32(0), layers))
        return meta.unbox(variables)["params"]["w_o"]  # all else is not compiled

    alone, deep = (jax.jit(partial(way_out, layers))() for layers in (1, 10))
    assert 0.4 < np.std(alone) < 0.6  # 2 / √16
    np.testing.assert_allclose(deep, alone / 10, rtol=1e-6)


def test_sizes_are_those_of_the_125m_model():
    mixer = MLSTMBlock(768)
    width, inner, heads, block, taps = 768, 1536, 4, 4, 4
    assert count(mixer) == inner * (3 * width + taps + 3 * block + 6 * heads + 3) + 2 * heads == 3_605_000
    assert state_bytes(mixer) == 2_383_888
