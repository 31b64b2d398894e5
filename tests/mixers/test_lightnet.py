"""LightNet against its definition, a softmax over the past for every key channel, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from scipy.special import expit, softmax

from jaxseq.mixers.lightnet import LightNet
from tests.mixers.oracle import assert_near, inputs, stepped

B, T, D, H, K = 2, 21, 32, 4, 8
MIXER = LightNet(D, head_dim=K, gate_rank=5, norm_eps=0.1)


def declared(mixer):
    return meta.unbox(jax.jit(mixer.init)(jax.random.key(0), jnp.zeros((1, 1, mixer.width))))["params"]


@pytest.fixture(scope="module")
def variables():
    rng = np.random.default_rng(1)
    norm = jnp.asarray(rng.normal(size=D), jnp.float32)
    return {"params": {**jax.tree.map(lambda w: 3 * w, declared(MIXER)), "norm": norm}}


def definition(params, x):
    """y (T, D) of one sequence x (T, D) in float64, and the last state of every head (H, K, V)."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    q, k, v = (x @ p[name] for name in ("w_q", "w_k", "w_v"))
    y, S = np.zeros((T, D)), np.zeros((H, K, K))
    for t in range(T):
        for h in range(H):
            own = slice(h * K, (h + 1) * K)
            for i in range(K):
                S[h, i] = softmax(k[: t + 1, h * K + i]) @ v[: t + 1, own]
            y[t, own] = (q[t, own] * expit(q[t, own])) @ S[h] / np.sqrt(K)
        gate = x[t] @ p["w_1"] @ p["w_2"]
        y[t] = y[t] / np.sqrt(np.mean(y[t] ** 2) + MIXER.norm_eps) * p["norm"] * gate * expit(gate)
    return y @ p["w_o"], S


@pytest.fixture(scope="module")
def expected(variables):
    rows = [definition(variables["params"], np.asarray(x, np.float64)) for x in inputs(D, T, B)]
    return [np.stack(part) for part in zip(*rows, strict=True)]


def test_outputs_and_state_are_the_definition_s(variables, expected):
    y, state = jax.jit(MIXER.apply)(variables, inputs(D, T, B))
    assert_near(y, expected[0])
    assert_near(state["S"], expected[1])


def test_stepped_outputs_are_the_definition_s(variables, expected):
    assert_near(stepped(MIXER, variables, inputs(D, T, B)), expected[0])


def test_a_mean_stays_a_mean_after_more_tokens_than_a_sum_can_count(close):
    mixer = LightNet(2)
    x, params = jnp.ones((1, 1000, 2)), {**declared(mixer), "w_k": jnp.zeros((2, 2))}
    mean = jnp.broadcast_to(jnp.sum(params["w_v"], axis=0), (1, 1, 2, 2))
    _, state = jax.jit(mixer.apply)({"params": params}, x, state={"z": jnp.full((1, 1, 2), 14.0), "S": mean})
    close(state["S"], mean)


def test_matrices_start_with_the_variance_that_keeps_a_token_s(variables):
    for name, value in variables["params"].items():
        if name != "norm":
            assert 0.7 < np.std(value / 3) * np.sqrt(value.shape[0]) < 1.3
    np.testing.assert_array_equal(declared(MIXER)["norm"], 1)


def test_heads_parameters_and_state_have_the_sizes_stated():
    mixer = LightNet(512)
    params = meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, 512))))["params"]
    assert sum(x.size for x in params.values()) == 4 * 512**2 + 2 * 512 * 128 + 512
    assert mixer.init_state(3)["S"].shape == (3, 4, 128, 128)
    assert sum(x.nbytes for x in jax.tree.leaves(mixer.init_state(1))) == 4 * 129 * 512
