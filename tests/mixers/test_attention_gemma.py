"""Attention against transformers' RecurrentGemma: a window, one key head, half of a head turned, a bias."""

import jax
import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.masking_utils import create_sliding_window_causal_mask
from transformers.models.recurrent_gemma.configuration_recurrent_gemma import RecurrentGemmaConfig
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaAttention

from jaxseq.convert.families.recurrent_gemma import ATTENTION
from jaxseq.mixers.attention import Attention
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped

D = 32


@pytest.fixture(scope="module")
def pair():
    """transformers' module and its config, ours, and the weights of both."""
    config = RecurrentGemmaConfig(
        hidden_size=D, lru_width=D, num_attention_heads=4, num_key_value_heads=1, attention_window_size=8,
        num_hidden_layers=3, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = amplify(RecurrentGemmaAttention(config, 2))
    ours = Attention(D, heads=4, kv_heads=1, window=8, rope_fraction=0.5, out_bias=True)
    return theirs, config, ours, crossed(ATTENTION, theirs, ours)


def outputs(module, config, x, cache=None):
    """Theirs of tokens that follow those in the cache."""
    seen = 0 if cache is None else cache.get_seq_length(2)
    position = torch.arange(seen, seen + x.shape[1])[None]
    mask = create_sliding_window_causal_mask(
        config=config, inputs_embeds=x, attention_mask=None, past_key_values=cache, position_ids=position
    )
    return module(x, position, mask, cache)[0].detach().numpy()


def test_it_is_transformers_attention(pair):
    theirs, config, ours, variables = pair
    x = inputs(D)
    y, _ = jax.jit(ours.apply)(variables, x)
    assert_near(y, outputs(theirs, config, torch.from_numpy(x)))


def test_its_steps_are_those_of_transformers(pair):
    theirs, config, ours, variables = pair
    x = inputs(D)
    cache = DynamicCache(config=config)
    tokens = torch.from_numpy(x).split(1, dim=1)
    expected = np.concatenate([outputs(theirs, config, token, cache) for token in tokens], axis=1)
    assert_near(stepped(ours, variables, x), expected)
