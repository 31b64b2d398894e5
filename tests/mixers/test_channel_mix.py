"""RWKV's channel mixing against transformers' for version 4 and its equations for the later ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers.models.rwkv.configuration_rwkv import RwkvConfig
from transformers.models.rwkv.modeling_rwkv import RwkvFeedForward

from jaxseq.convert.families.rwkv4 import CHANNEL_MIX
from jaxseq.mixers.base import Depth
from jaxseq.mixers.channel_mix import ChannelMix
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, drawn, state_bytes, wide

D, F = 16, 24


@pytest.fixture(scope="module")
def pair():
    """transformers' layer, ours, and the weights of both."""
    theirs = amplify(RwkvFeedForward(RwkvConfig(hidden_size=D, intermediate_size=F, num_hidden_layers=1)))
    ours = ChannelMix(D, version=4, hidden=F)
    return theirs, ours, crossed(CHANNEL_MIX, theirs, ours)


def test_version_4_is_transformers_channel_mixing(pair):
    theirs, ours, variables = pair
    x = inputs(D)
    y, _ = jax.jit(ours.apply)(variables, x)
    assert_near(y, theirs(torch.from_numpy(x))[0].detach())


def test_version_4_s_steps_are_those_of_transformers(pair):
    """One sequence: transformers' single steps are wrong for more."""
    theirs, ours, variables = pair
    x, state, expected = inputs(D, batch=1), [torch.zeros(1, D, 1)], []
    with torch.no_grad():
        for token in torch.from_numpy(x).split(1, dim=1):
            y, state = theirs(token, state=state)
            expected.append(y)
    assert_near(stepped(ours, variables, x), torch.cat(expected, dim=1))


def definition(p, x):
    """y (T, D) of one row x (T, D), with a receptance where there is one."""
    y, before = [], np.zeros(D)
    for u in x:
        hidden = np.maximum((u + p["mu_k"] * (before - u)) @ p["w_k"], 0) ** 2
        gate = expit((u + p["mu_r"] * (before - u)) @ p["w_r"]) if "w_r" in p else 1
        y.append(gate * (hidden @ p["w_v"]))
        before = u
    return np.stack(y)


@pytest.mark.parametrize("version", [6, 7])
def test_later_versions_are_the_definition_s(version, close):
    mixer, x = ChannelMix(D, version=version, hidden=F), inputs(D)
    params = drawn(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(wide(params), row) for row in x.astype(np.float64)]))
    assert ("w_r" in params) == (version == 6)


@pytest.mark.parametrize(("version", "power"), [(4, 0.6), (6, 0.6), (7, 0.6**4)])
def test_tokens_are_mixed_at_first_by_depth(version, power, close):
    init = ChannelMix(D, version=version)._init_mu(Depth(jnp.int32(2), 5))
    own = (np.arange(D) / D) ** power
    close(init, own if version == 4 else 1 - own)


@pytest.mark.parametrize(("version", "hidden"), [(4, 256), (6, 224), (7, 256)])
def test_sizes_are_those_stated(version, hidden):
    mixer = ChannelMix(64, version=version)
    assert count(mixer) == 2 * 64 * hidden + 64 + (64**2 + 64 if version < 7 else 0)
    assert state_bytes(mixer) == 4 * 64
