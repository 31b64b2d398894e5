"""Aaren against torch's attention, which is asked the same at every token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta

from jaxseq.mixers.aaren import Aaren
from tests.mixers.oracle import assert_near, inputs, stepped

B, T, D, H = 2, 21, 32, 4
MIXER = Aaren(D, heads=H)
NAMES = ("query", "w_k", "w_v", "w_o")


@pytest.fixture(scope="module")
def declared():
    return meta.unbox(jax.jit(MIXER.init)(jax.random.key(0), jnp.zeros((1, 1, D))))["params"]


@pytest.fixture(scope="module")
def variables(declared):
    return {"params": jax.tree.map(lambda x: 2 * x, declared)}


@pytest.fixture(scope="module")
def expected(variables):
    """Outputs in float64."""
    query, keys, values, out = (torch.tensor(np.array(variables["params"][name])).double() for name in NAMES)
    attention = torch.nn.MultiheadAttention(D, H, bias=False, batch_first=True).double()
    x, later = torch.tensor(inputs(D, T, B)).double(), torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([torch.eye(D), keys.T, values.T]))
        attention.out_proj.weight.copy_(out.T)
        return attention(query.flatten().expand(B, T, D), x, x, attn_mask=later, need_weights=False)[0].numpy()


def test_outputs_are_those_of_torch_s_attention(variables, expected):
    assert_near(jax.jit(MIXER.apply)(variables, inputs(D, T, B))[0], expected)


def test_stepped_outputs_are_those_of_torch_s_attention(variables, expected):
    assert_near(stepped(MIXER, variables, inputs(D, T, B)), expected)


def test_scores_start_with_a_variance_of_one(declared):
    x = np.random.default_rng(0).normal(size=(2000, D))
    keys = (x @ np.asarray(declared["w_k"], np.float64)).reshape(-1, H, D // H)
    assert 0.5 < np.var(np.sum(keys * declared["query"], axis=-1) / np.sqrt(D // H)) < 2


def test_parameters_and_state_have_the_sizes_stated(declared):
    assert sum(x.size for x in declared.values()) == 3 * D**2 + D
    assert sum(x.nbytes for x in jax.tree.leaves(MIXER.init_state(1))) == 4 * (D + 2 * H)
