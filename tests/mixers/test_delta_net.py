"""DeltaNet against its equations in float64, and against transformers' gated delta rule without its decay."""

import jax
import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers import OlmoHybridConfig
from transformers.models.olmo_hybrid.modeling_olmo_hybrid import OlmoHybridGatedDeltaNet

from jaxseq.convert.families.delta_net import OLMO_HYBRID
from jaxseq.convert.table import read
from jaxseq.mixers.delta_net import DeltaNet
from tests.mixers.oracle import amplify, assert_near, inputs, stepped
from tests.mixers.weights import count, drawn, initial, shapes, state_bytes, wide

D, H, K, V = 16, 2, 5, 6


def convolved(x, taps):
    """SiLU of a causal convolution of x (T, C) with taps (4, C)."""
    padded = np.concatenate([np.zeros((3, x.shape[1])), x])
    y = np.stack([np.sum(taps * padded[t : t + 4], axis=0) for t in range(len(x))])
    return y * expit(y)


def definition(params, x, beta_max):
    """y (T, D) of one row x (T, D)."""
    p = wide(params)
    q, k, v = (convolved(x @ p[f"w_{n}"], p[f"conv_{n}_w"]).reshape(len(x), H, -1) for n in "qkv")
    beta = beta_max * expit(x @ p["w_beta"])
    y = np.zeros((len(x), H, V))
    for h in range(H):
        S = np.zeros((K, V))
        for t in range(len(x)):
            key = k[t, h] / np.sqrt(np.sum(k[t, h] ** 2) + 1e-6)
            query = q[t, h] / np.sqrt(np.sum(q[t, h] ** 2) + 1e-6)
            S = (np.eye(K) - beta[t, h] * np.outer(key, key)) @ S + beta[t, h] * np.outer(key, v[t, h])
            read = S.T @ query / np.sqrt(K)
            y[t, h] = p["norm"] * read / np.sqrt(np.mean(read**2) + 1e-5)
    return y.reshape(len(x), -1) @ p["w_o"]


@pytest.mark.parametrize("beta_max", [1.0, 2.0])
def test_values_are_the_definition_s(beta_max, close):
    mixer, x = DeltaNet(D, heads=H, key_dim=K, value_dim=V, beta_max=beta_max), inputs(D)
    params = drawn(mixer)
    wanted = np.stack([definition(params, row.astype(np.float64), beta_max) for row in x])
    close(jax.jit(mixer.apply)({"params": params}, x)[0], wanted)


def test_single_steps_with_a_gate_are_those_of_transformers():
    config = OlmoHybridConfig(
        hidden_size=D,
        num_attention_heads=H,
        num_hidden_layers=4,
        linear_key_head_dim=K,
        linear_value_head_dim=V,
        linear_allow_neg_eigval=True,
    )
    module = OlmoHybridGatedDeltaNet(config, 0)
    amplify(module)
    module.A_log.data.fill_(-torch.inf)  # a decay of 1
    mixer, x = DeltaNet(D, heads=H, key_dim=K, value_dim=V, beta_max=2.0, gate=True), inputs(D)
    table = [entry for entry in OLMO_HYBRID if entry.ours[0] not in ("w_dt", "b_dt", "a_log")]
    theirs = {name for entry in table for name in entry.theirs}
    tensors = {name: value for name, value in module.state_dict().items() if name in theirs}
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    assert_near(stepped(mixer, {"params": read(table, tensors, shapes(mixer))}, x), wanted)


def test_taps_start_uniform_as_in_torch():
    taps = initial(DeltaNet(256))["conv_k_w"]
    assert 0.49 < np.max(np.abs(taps)) <= 0.5  # 1 / √4


def test_sizes_are_those_of_the_340m_model():
    mixer = DeltaNet(1024)
    width, heads, dim, taps = 1024, 8, 128, 4
    wanted = 2 * heads * dim * (width + taps) + heads * dim * (2 * width + taps) + heads * width + dim
    assert count(mixer) == wanted
    assert count(DeltaNet(1024, gate=True)) == wanted + heads * dim * width
    assert mixer.init_state(1)["S"].size == 131_072
    assert state_bytes(mixer) == 561_152
