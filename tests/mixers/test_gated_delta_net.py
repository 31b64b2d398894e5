"""Gated DeltaNet against transformers' OlmoHybridGatedDeltaNet and Qwen3_5GatedDeltaNet."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import OlmoHybridConfig
from transformers.models.olmo_hybrid.modeling_olmo_hybrid import OlmoHybridGatedDeltaNet
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from jaxseq.convert.families.delta_net import OLMO_HYBRID, QWEN3_5
from jaxseq.mixers.gated_delta_net import GatedDeltaNet
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, initial, state_bytes

D, K, V = 16, 5, 6


def olmo_hybrid():
    """Separate maps, β up to 2."""
    config = OlmoHybridConfig(
        hidden_size=D,
        num_attention_heads=2,
        num_hidden_layers=4,
        linear_key_head_dim=K,
        linear_value_head_dim=V,
        linear_allow_neg_eigval=True,
    )
    mixer = GatedDeltaNet(D, heads=2, key_dim=K, value_dim=V, beta_max=2.0)
    return OLMO_HYBRID, OlmoHybridGatedDeltaNet(config, 0), mixer


def qwen3_5():
    """One map for q, k and v, two heads of v for each of q and k."""
    config: Any = Qwen3_5TextConfig(
        hidden_size=D,
        num_hidden_layers=4,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=K,
        linear_value_head_dim=V,
        rms_norm_eps=1e-5,
    )
    mixer = GatedDeltaNet(D, heads=2, value_heads=4, key_dim=K, value_dim=V)
    return QWEN3_5, Qwen3_5GatedDeltaNet(config, 0), mixer


@pytest.fixture(params=[olmo_hybrid, qwen3_5], ids=lambda f: f.__name__)
def pair(request):
    """Our mixer, its variables, x, and what the other module makes of x."""
    table, module, mixer = request.param()
    amplify(module)
    x = inputs(D)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    return mixer, crossed(table, module, mixer), x, wanted


def test_outputs_are_those_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_whole_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(stepped(mixer, variables, x), wanted)


def test_rates_and_steps_start_in_their_ranges():
    params = initial(GatedDeltaNet(D, heads=128, key_dim=1, dt_min=1e-2, dt_max=0.5))
    rates = np.exp(np.asarray(params["a_log"]))
    assert 0.01 <= rates.min() < 1
    assert 15 < rates.max() <= 16
    dt = np.log1p(np.exp(np.asarray(params["b_dt"], np.float64)))
    assert 1e-2 * (1 - 1e-4) <= dt.min() < 2e-2
    assert 0.25 < dt.max() <= 0.5 * (1 + 1e-4)


def test_sizes_are_those_of_the_400m_model():
    mixer = GatedDeltaNet(1024)
    width, heads, key, value, taps = 1024, 3, 256, 512, 4
    wanted = 2 * heads * key * (width + taps) + heads * value * (3 * width + taps) + 2 * heads * (width + 1) + value
    assert count(mixer) == wanted
    assert mixer.init_state(1)["S"].size == 393_216
    assert state_bytes(mixer) == 1_609_728
