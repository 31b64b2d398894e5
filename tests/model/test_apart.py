"""Layers taken apart give what the scanned ones give, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.model.apart import apart

TOKENS = np.random.default_rng(0).integers(0, 32, (2, 5)).astype(np.int32)
SMALL = {"vocab": 32, "width": 8, "mlp_width": 8}
CONFIGS = {
    "one state of several arrays": {"pattern": ("attention", "lru"), "options": {"attention": {"heads": 2}}},
    "layers that know their depth": {"pattern": ("rwkv7", "channel_mix"), "options": {"rwkv7": {"head_dim": 4}}},
    "one layer again and again": {"pattern": ("lru",), "shared_layers": True},
}


def stepped(model, params, state):
    step, seen = jax.jit(model.apply), []
    for token in TOKENS.T:
        logits, state = step({"params": params}, token[:, None], state=state)
        seen.append(logits)
    return jnp.concatenate(seen, axis=1), state


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_apart_are_the_scanned_layers(name, close):
    fields = CONFIGS[name]
    model = LanguageModel(ModelConfig(**SMALL, **fields, layers=3 * len(fields["pattern"])))
    params = meta.unbox(jax.jit(model.init)(jax.random.key(0), TOKENS)["params"])
    logits, state = stepped(model, params, model.init_state(2))
    found, after = stepped(model, *apart(model.config, params, model.init_state(2)))
    close(found, logits)
    close(jax.tree.map(lambda *x: jnp.stack(x), *after), state)
