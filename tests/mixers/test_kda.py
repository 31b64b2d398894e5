"""KDA against transformers' KimiLinearDeltaAttention and BailingHybridDeltaAttention."""

import jax
import numpy as np
import pytest
import torch
from transformers import BailingHybridConfig, KimiLinearConfig
from transformers.models.bailing_hybrid.modeling_bailing_hybrid import BailingHybridDeltaAttention
from transformers.models.kimi_linear.modeling_kimi_linear import KimiLinearDeltaAttention

from jaxseq.convert.families.kda import BAILING_HYBRID, KIMI_LINEAR
from jaxseq.mixers.kda import KDA
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, initial, state_bytes

D, H, K = 16, 2, 6


def kimi_linear():
    """Maps of low rank, decays without bound."""
    config = KimiLinearConfig(hidden_size=D, num_hidden_layers=4, linear_num_heads=H, linear_head_dim=K)
    return KIMI_LINEAR, KimiLinearDeltaAttention(config, 0), KDA(D, heads=H, key_dim=K)


def bailing_hybrid():
    """Full maps, bounded decays."""
    config = BailingHybridConfig(hidden_size=D, num_hidden_layers=4, num_attention_heads=H, head_dim=K)
    mixer = KDA(D, heads=H, key_dim=K, rank=0, lower_bound=-5.0, norm_eps=1e-6)
    return BAILING_HYBRID, BailingHybridDeltaAttention(config, 0), mixer


@pytest.fixture(params=[kimi_linear, bailing_hybrid], ids=lambda f: f.__name__)
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
    params = initial(KDA(D, heads=128, key_dim=2, rank=1))
    rates = np.exp(np.asarray(params["a_log"]))
    assert 1 <= rates.min() < 2
    assert 15 < rates.max() <= 16
    dt = np.log1p(np.exp(np.asarray(params["b_dt"], np.float64)))
    assert 1e-3 * (1 - 1e-4) <= dt.min() < 2e-3
    assert 0.05 < dt.max() <= 0.1 * (1 + 1e-4)


def test_sizes_are_those_of_the_small_model():
    mixer = KDA(1024)
    width, heads, dim, taps = 1024, 8, 128, 4
    maps = 2 * heads * dim * (width + taps) + heads * dim * (2 * width + taps)
    rest = heads * (width + dim + 1) + dim
    assert count(mixer) == maps + dim * (2 * width + 2 * heads * dim) + rest
    assert count(KDA(1024, rank=0)) == maps + 2 * width * heads * dim + rest
    assert mixer.init_state(1)["S"].size == 131_072
    assert state_bytes(mixer) == 561_152
