"""One label per sequence, seen from both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.model import BidirectionalClassifier, Classifier, ModelConfig
from jaxseq.model.bidirectional import BidirectionalBlock, ends
from jaxseq.model.block import Block

B, T = 3, 9
CONFIG = ModelConfig(vocab=7, width=8, layers=2, pattern=("lru",), mlp_width=8)
TOKENS = np.random.default_rng(0).integers(0, 7, (B, T))
FEATURES = np.random.default_rng(1).normal(size=(B, T, 4)).astype(np.float32)


def made(kind, inputs, **options):
    model = kind(CONFIG, classes=3, **options)
    params = {"params": meta.unbox(model.init(jax.random.key(0), inputs))["params"]}
    return params, jax.jit(lambda inputs, mask=None: model.apply(params, inputs, mask=mask))


@pytest.mark.parametrize("kind", [Classifier, BidirectionalClassifier])
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_padding_changes_nothing(kind, pool, close):
    _, run = made(kind, TOKENS, pool=pool)
    mask = np.ones((B, T), bool)
    mask[:, 6:] = False
    padded = np.where(mask, TOKENS, 3)
    found = run(padded, mask)
    assert found.shape == (B, 3)
    close(found, run(TOKENS[:, :6]))


@pytest.mark.parametrize(("kind", "seen"), [(Block, False), (BidirectionalBlock, True)])
def test_only_the_bidirectional_block_sees_what_comes_later(kind, seen):
    block, x = kind(CONFIG, "lru"), np.random.default_rng(2).normal(size=(1, T, 8)).astype(np.float32)
    params = meta.unbox(block.init(jax.random.key(0), x, None, None, None))
    slope = jax.jit(jax.jacobian(lambda x: block.apply(params, x, None, None, None)[0][0, 0]))(x)  # (D, 1, T, D)
    size = jnp.max(jnp.abs(slope), axis=(0, 1, 3))
    assert size[0] > 0
    assert bool(jnp.all(size[1:] > 0)) == bool(jnp.any(size[1:] > 0)) == seen


def test_documents_start_at_their_ends_if_time_runs_backwards():
    reset = jnp.array([[True, False, False, True, False]])
    np.testing.assert_array_equal(ends(reset), [[True, False, True, False, False]])
    assert ends(None) is None


@pytest.mark.parametrize(
    ("kind", "options", "inputs", "message"),
    [
        (Classifier, {"pool": "max"}, TOKENS, "pool mean or last, got 3 and 'max'"),
        (Classifier, {}, TOKENS[0], r"inputs must be \(B, T\) int or \(B, T, F\) float, got int32 \(9,\)"),
        (Classifier, {}, FEATURES[0], r"got float32 \(9, 4\)"),
    ],
)
def test_what_it_cannot_take_is_named(kind, options, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(kind(CONFIG, classes=3, **options).init, jax.random.key(0), inputs)
