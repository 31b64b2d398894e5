"""RWKV-4's time mixing against transformers', and its start over depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.rwkv.configuration_rwkv import RwkvConfig
from transformers.models.rwkv.modeling_rwkv import RwkvSelfAttention

from jaxseq.convert.families.rwkv4 import TIME_MIX
from jaxseq.mixers.base import Depth
from jaxseq.mixers.rwkv4 import RWKV4
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, state_bytes

D, E = 16, 24


@pytest.fixture(scope="module")
def pair():
    """transformers' layer, ours, and the weights of both."""
    theirs = amplify(RwkvSelfAttention(RwkvConfig(hidden_size=D, attention_hidden_size=E, num_hidden_layers=1)))
    theirs.time_decay.data -= 2  # memory of several tokens
    ours = RWKV4(D, inner=E)
    return theirs, ours, crossed(TIME_MIX, theirs, ours)


def test_it_is_transformers_time_mixing(pair):
    theirs, ours, variables = pair
    x = inputs(D)
    y, _ = jax.jit(ours.apply)(variables, x)
    assert_near(y, theirs(torch.from_numpy(x))[0].detach())


def test_its_steps_are_those_of_transformers(pair):
    """One sequence: transformers' single steps are wrong for more."""
    theirs, ours, variables = pair
    x = inputs(D, batch=1)
    state = [torch.zeros(1, D, 1), torch.zeros(1, D, 1), *(torch.zeros(1, E, 1) for _ in range(3))]
    state[4] -= 1e30
    expected = []
    with torch.no_grad():
        for token in torch.from_numpy(x).split(1, dim=1):
            y, state = theirs(token, state=state, use_cache=True)
            expected.append(y)
    assert_near(stepped(ours, variables, x), torch.cat(expected, dim=1))


def start(index, layers):
    depth = None if index is None else Depth(jnp.int32(index), layers)
    params = jax.jit(lambda key: RWKV4(D, inner=E).init(key, jnp.zeros((1, 2, D)), depth=depth))(jax.random.key(0))
    return {name: np.asarray(declared.value) for name, declared in params["params"].items()}


def test_it_starts_as_the_paper_says(close):
    index, layers = 2, 5
    params = start(index, layers)
    rho, q, i, e = index / (layers - 1), 1 - index / layers, np.arange(D) / D, np.arange(E)
    close(params["decay_log"], -5 + 8 * (e / (E - 1)) ** (0.7 + 1.3 * rho))
    close(params["bonus"], np.log(0.3) + np.array([(n + 1) % 3 - 1 for n in e]) / 2)
    close(params["mu_k"], i**q)
    close(params["mu_v"], i**q + 0.3 * rho)
    close(params["mu_r"], i ** (q / 2))
    assert not params["w_o"].any()
    close(params["w_k"] @ params["w_k"].T, np.eye(D))


def test_without_a_place_it_is_the_only_layer(close):
    close(start(None, None), start(0, 1))


def test_sizes_are_those_stated():
    mixer = RWKV4(D, inner=E)
    assert count(mixer) == 4 * D * E + 2 * E + 3 * D
    assert state_bytes(mixer) == 4 * (3 * E + D)
