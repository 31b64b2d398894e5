"""What the remat policies keep is not made again in the backward pass."""

import jax
import jax.numpy as jnp
import pytest
from flax.core import meta

from jaxseq.model import LanguageModel, ModelConfig

TOKENS = jnp.zeros((1, 256), jnp.int32)  # two blocks of queries


def transcendentals(pattern, remat):
    """How many exponentials and their like a layer's gradient takes."""
    model = LanguageModel(ModelConfig(vocab=8, width=8, layers=1, pattern=pattern, mlp_width=0, remat=remat))
    params = meta.unbox(jax.eval_shape(model.init, jax.random.key(0), TOKENS))["params"]
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(model.apply({"params": params}, TOKENS)[0])))
    cost = gradient.lower(params).compile().cost_analysis()
    assert cost is not None
    return cost["transcendentals"]


@pytest.mark.parametrize("mixer", ["attention", "para_rnn"])
@pytest.mark.parametrize("remat", ["dots", "states"])
def test_neither_a_solve_nor_attention_is_repeated_by_its_layer(mixer, remat):
    kept, repeated = (transcendentals((mixer,), x) for x in (remat, "full"))
    assert kept < 0.8 * repeated
