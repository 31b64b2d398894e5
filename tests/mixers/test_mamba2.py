"""Mamba-2 against transformers' Mamba2Mixer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from jaxseq.convert.families.mamba2 import MAMBA2
from jaxseq.mixers.base import Depth
from jaxseq.mixers.mamba2 import Mamba2
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, initial, state_bytes

D = 16


@pytest.fixture(params=[1, 2], ids=["one group", "two groups"])
def pair(request):
    """Our mixer, its variables, x, and what the other module makes of x."""
    sizes = {"num_heads": 4, "head_dim": 8, "state_size": 5, "n_groups": request.param, "chunk_size": 8}
    module = amplify(Mamba2Mixer(Mamba2Config(hidden_size=D, num_hidden_layers=1, **sizes), 0))
    mixer = Mamba2(D, head_dim=8, states=5, groups=request.param)
    x = inputs(D)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    return mixer, crossed(MAMBA2, module, mixer), x, wanted


def test_outputs_are_those_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_whole_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(stepped(mixer, variables, x), wanted)


def test_rates_and_steps_start_in_their_ranges():
    params = initial(Mamba2(64, head_dim=1, states=2, dt_min=1e-2, dt_max=0.5))
    rates = np.exp(np.asarray(params["a_log"]))
    assert 1 <= rates.min() < 2
    assert 15 < rates.max() <= 16
    dt = np.log1p(np.exp(np.asarray(params["b_dt"], np.float64)))
    assert 1e-2 * (1 - 1e-4) <= dt.min() < 2e-2
    assert 0.25 < dt.max() <= 0.5 * (1 + 1e-4)


def test_the_way_out_starts_smaller_in_a_deeper_stack():
    def way_out(layers):
        variables = Mamba2(D).init(jax.random.key(0), jnp.zeros((1, 2, D)), depth=Depth(jnp.int32(0), layers))
        return meta.unbox(variables)["params"]["w_o"]  # all else is not compiled

    alone, deep = (jax.jit(partial(way_out, layers))() for layers in (1, 16))
    np.testing.assert_allclose(deep, alone / 4, rtol=1e-6)


def test_sizes_are_those_of_the_130m_model():
    mixer = Mamba2(768)
    width, inner, shared, heads, taps = 768, 1536, 2 * 128, 24, 4
    wanted = inner * (3 * width + taps + 2) + shared * (width + taps + 1) + heads * (width + 3)
    assert count(mixer) == wanted
    assert mixer.init_state(1)["S"].size == 196_608
    assert state_bytes(mixer) == 807_936
