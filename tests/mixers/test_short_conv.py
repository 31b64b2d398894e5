"""The gated short convolution against transformers' Lfm2ShortConv."""

import jax
import pytest
import torch
from transformers import Lfm2Config
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

from jaxseq.convert.families.lfm2 import SHORT_CONV
from jaxseq.mixers.short_conv import ShortConv
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, state_bytes

D = 16


@pytest.fixture(params=[2, 3, 5])
def pair(request):
    """Our mixer, its variables, x, and what the other module makes of x."""
    config = Lfm2Config(hidden_size=D, num_hidden_layers=1, layer_types=["conv"], conv_L_cache=request.param)
    module, mixer, x = amplify(Lfm2ShortConv(config, 0)), ShortConv(D, conv_width=request.param), inputs(D)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    return mixer, crossed(SHORT_CONV, module, mixer), x, wanted


def test_outputs_are_those_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_whole_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(stepped(mixer, variables, x), wanted)


def test_sizes_are_those_of_the_350m_model():
    mixer = ShortConv(1024)
    assert count(mixer) == 1024 * (4 * 1024 + 3) == 4_197_376
    assert state_bytes(mixer) == 2 * 1024 * 4
