"""The mLSTM against transformers' xLSTMLayer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta
from transformers import xLSTMConfig
from transformers.models.xlstm.modeling_xlstm import xLSTMLayer

from jaxseq.convert.families.xlstm import XLSTM
from jaxseq.mixers.base import Depth
from jaxseq.mixers.mlstm import MLSTM
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, initial, state_bytes

D, H = 16, 2


@pytest.fixture(scope="module")
def pair():
    """Our mixer, its variables, x, and what the other module makes of x."""
    module = amplify(xLSTMLayer(xLSTMConfig(hidden_size=D, num_heads=H, chunk_size=8)))
    mixer, x = MLSTM(D, heads=H), inputs(D)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x))[0].numpy()
    return mixer, crossed(XLSTM, module, mixer), x, wanted


def test_outputs_are_those_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_whole_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(stepped(mixer, variables, x), wanted)


def test_gates_know_nothing_of_the_input_at_first():
    params = initial(MLSTM(D))
    np.testing.assert_array_equal(params["w_i"], np.zeros((D, 4)))
    np.testing.assert_array_equal(params["w_f"], np.zeros((D, 4)))
    np.testing.assert_array_equal(params["b_i"], np.full(4, -10))
    np.testing.assert_allclose(params["b_f"], [3, 4, 5, 6])


def test_the_way_out_starts_smaller_in_a_deeper_stack():
    def way_out(layers):
        variables = MLSTM(D).init(jax.random.key(0), jnp.zeros((1, 2, D)), depth=Depth(jnp.int32(0), layers))
        return meta.unbox(variables)["params"]["w_o"]  # all else is not compiled

    alone, deep = (jax.jit(partial(way_out, layers))() for layers in (1, 10))
    assert 0.4 < np.std(alone) < 0.6  # 2 / √16
    np.testing.assert_allclose(deep, alone / 10, rtol=1e-6)


def test_sizes_are_those_of_the_165m_model():
    mixer = MLSTM(768)
    width, heads, key, value = 768, 4, 96, 192
    wanted = 2 * heads * key * width + 3 * heads * value * width + 2 * heads * (width + 1) + heads * value
    assert count(mixer) == wanted
    assert state_bytes(mixer) == 4 * 74_116
