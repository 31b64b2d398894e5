"""Decoding: equal to the parallel forward pass, independent of the batch, and drawn from where it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq import generate as module
from jaxseq.data import ByteTokenizer
from jaxseq.generate import Sampling, generate, sample
from jaxseq.model import LanguageModel, ModelConfig

TOKENIZER = ByteTokenizer()
GREEDY = Sampling(temperature=0)
PROMPTS = [b"", b"The quick brown fox jumps over", b"abc"]
CONTEXT = 2100


def build(*pattern, **options):
    """A tiny model with random weights, doubled so that its outputs vary."""
    model = LanguageModel(ModelConfig(width=16, layers=len(pattern), pattern=pattern, options=options, mlp_width=16))
    params = meta.unbox(jax.jit(model.init)(jax.random.key(2), jnp.zeros((1, 2), jnp.int32))["params"])
    return model, jax.tree.map(lambda x: 2 * x, params)


@pytest.fixture(scope="module")
def recurrent():
    return build("para_rnn", "lru")


@pytest.fixture(scope="module")
def attentive():
    return build("para_rnn", "attention", attention={"heads": 2, "context": CONTEXT})


def without_bos(params):
    """Parameters that never draw `bos`: its logit is that of the norm's largest entry, turned negative."""
    head = params["head"].at[:, TOKENIZER.bos].set(-100 * jnp.sign(params["norm"]))
    return params | {"head": head, "norm": params["norm"]}


def decode(model, params, prompts=(b"",), *, tokens=40, sampling=GREEDY):
    return generate(model, params, TOKENIZER, list(prompts), max_tokens=tokens, sampling=sampling)


def drawn(model, params, tokens, sampling=GREEDY, prompt=b""):
    """The ids of a single row, seen by on_token."""
    ids = []
    generate(
        model, params, TOKENIZER, [prompt], max_tokens=tokens, sampling=sampling, on_token=lambda _, i: ids.append(i)
    )
    return np.array(ids)
