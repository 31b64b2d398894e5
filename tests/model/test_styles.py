"""The styles of blocks that the config offers, against their equations."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.mixers import MIXERS
from jaxseq.mixers.base import Depth, Mixer
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.ops import layer_norm, rms_norm
from jaxseq.sharding import param
from tests.mixers.cases import OPTIONS, WIDTH

B, T, D = 2, 5, 8
CONFIG = ModelConfig(vocab=11, width=D, layers=1, pattern=("lru",), mlp_width=12, remat="none")
TOKENS = np.random.default_rng(0).integers(0, 11, (B, T))


def made(config):
    """A model and random parameters."""
    model = LanguageModel(config)
    shapes = meta.unbox(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 2, jnp.float32), shapes)


def pieces(params, config):
    """The parameters of the only block, and what its mixer makes of an input."""
    block = jax.tree.map(lambda x: x[0], params["layers"]["block_0"])
    return block, lambda x: MIXERS["lru"](D).apply({"params": block["mixer"]}, x)[0]


def logits(model, params):
    return jax.jit(model.apply)({"params": params}, TOKENS)[0]


def head(params, x):
    return rms_norm(x, params["norm"]) @ params["head"]


def test_a_parallel_residual_adds_mixer_and_mlp_of_one_norm(close):
    config = replace(CONFIG, residual="parallel", residual_scale=False)
    model, params = made(config)
    block, mixer = pieces(params, config)
    x = params["embedding"][TOKENS]
    normed = rms_norm(x, block["mixer_norm"])
    mlp = block["mlp"]
    inner = nn.silu(normed @ mlp["w_gate"]) * (normed @ mlp["w_up"])
    close(logits(model, params), head(params, x + mixer(normed) + inner @ mlp["w_down"]))


def test_norms_after_mixer_and_mlp_norm_what_is_added(close):
    config = replace(CONFIG, post_norm=("lru",), residual_scale=False)
    model, params = made(config)
    block, mixer = pieces(params, config)
    x = params["embedding"][TOKENS]
    x = x + rms_norm(mixer(x), block["mixer_norm"])
    mlp = block["mlp"]
    inner = (nn.silu(x @ mlp["w_gate"]) * (x @ mlp["w_up"])) @ mlp["w_down"]
    close(logits(model, params), head(params, x + rms_norm(inner, block["mlp_norm"])))


def test_in_a_deepnorm_the_stream_is_what_the_norms_give(close):
    config = replace(CONFIG, residual="deepnorm", residual_factor=1.5, residual_scale=False)
    model, params = made(config)
    block, mixer = pieces(params, config)
    x = rms_norm(params["embedding"][TOKENS], block["mixer_norm"])
    x = rms_norm(1.5 * x + mixer(x), block["mlp_norm"])
    mlp = block["mlp"]
    inner = (nn.silu(x @ mlp["w_gate"]) * (x @ mlp["w_up"])) @ mlp["w_down"]
    close(logits(model, params), head(params, 1.5 * x + inner))


def test_a_residual_factor_needs_a_deepnorm():
    with pytest.raises(ValueError, match=r"model\.residual_factor must be 1 with residual 'sequential', got 2"):
        replace(CONFIG, residual_factor=2.0)


def test_norms_after_need_a_sequential_residual():
    with pytest.raises(ValueError, match=r"model\.residual must be 'sequential' with post_norm, got 'parallel'"):
        replace(CONFIG, post_norm=("lru",), residual="parallel")


def test_a_geglu_has_biases_and_a_scaled_embedding_and_a_cap_do_what_they_say(close):
    config = replace(CONFIG, mlp="geglu", mlp_bias=True, embedding_scale=D**0.5, logit_cap=3.0, residual_scale=False)
    model, params = made(config)
    block, mixer = pieces(params, config)
    x = params["embedding"][TOKENS] * D**0.5
    x = x + mixer(rms_norm(x, block["mixer_norm"]))
    normed, mlp = rms_norm(x, block["mlp_norm"]), block["mlp"]
    inner = nn.gelu(normed @ mlp["w_gate"] + mlp["b_gate"]) * (normed @ mlp["w_up"] + mlp["b_up"])
    capped = logits(model, params)
    close(capped, 3 * jnp.tanh(head(params, x + inner @ mlp["w_down"] + mlp["b_down"]) / 3))
    assert jnp.max(jnp.abs(capped)) <= 3


def test_layer_norms_with_a_norm_after_the_embedding_and_a_squared_relu(close):
    config = replace(CONFIG, norm="layer", norm_eps=1e-3, embedding_norm=True, mlp="relu2", residual_scale=False)
    model, params = made(config)
    block, mixer = pieces(params, config)

    def norm(x, of, name):
        return layer_norm(x, of[name], of[f"{name}_bias"], 1e-3)

    x = norm(params["embedding"][TOKENS], params, "embedding_norm")
    x = x + mixer(norm(x, block, "mixer_norm"))
    inner = jnp.square(nn.relu(norm(x, block, "mlp_norm") @ block["mlp"]["w_up"]))
    x = norm(x + inner @ block["mlp"]["w_down"], params, "norm")
    close(logits(model, params), x @ params["head"])


def test_layers_that_are_shared_are_the_same_layer_again_each_with_its_state(close):
    shared = replace(CONFIG, layers=3, shared_layers=True)
    model, params = made(shared)
    apart = replace(shared, shared_layers=False)
    copies = params | {"layers": jax.tree.map(lambda x: jnp.stack([x] * 3), params["layers"])}
    found, expected = jax.jit(model.apply)({"params": params}, TOKENS), logits(LanguageModel(apart), copies)
    close(found[0], expected)
    assert jax.tree.map(jnp.shape, found[1]) == jax.tree.map(jnp.shape, model.init_state(B))


@pytest.mark.parametrize("name", sorted(MIXERS))
def test_layers_of_any_mixer_are_shared_unless_they_start_by_depth(name):
    fields = {"width": WIDTH, "layers": 2, "pattern": (name,), "shared_layers": True, "mlp_width": 0, "remat": "none"}
    options = {name: OPTIONS[name][0]} if name in OPTIONS else {}
    if name in ("channel_mix", "rwkv4", "rwkv6", "rwkv7"):
        with pytest.raises(ValueError, match=f"model.shared_layers must be False with {name}"):
            ModelConfig(**fields, options=options)
    else:
        declare(LanguageModel(ModelConfig(**fields, options=options)))


class Told(Mixer):
    """Adds its row, and what the first layer of its kind gives: its own place in the stack plus one."""

    uses_depth = True

    def init_state(self, batch):
        return jnp.zeros((batch, 1))

    def table_width(self):
        return self.width

    def rows(self, table):
        return jnp.cumsum(table, axis=0)

    def first_width(self):
        return 1

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None, depth=None):
        self.param("unused", param(nn.initializers.ones), ())
        assert isinstance(depth, Depth)
        first = jnp.where(depth.index == 0, 7 + 0 * x[..., :1], depth.first)
        y = depth.row + 100 * first + 1000 * depth.index + 10000 * depth.layers + 0 * x
        return y, self.init_state(x.shape[0]), first


def test_a_mixer_is_told_its_place_its_row_and_what_the_first_of_its_kind_gave(close, monkeypatch):
    monkeypatch.setitem(MIXERS, "told", Told)
    config = ModelConfig(vocab=11, width=D, layers=4, pattern=("told", "lru"), mlp_width=0, residual_scale=False)
    model, params = made(config)
    params["layers"]["block_1"]["mixer"] = jax.tree.map(jnp.zeros_like, params["layers"]["block_1"]["mixer"])
    x = params["embedding"][TOKENS]
    rows = jnp.cumsum(params["told_table"], axis=0)
    for index in range(2):
        x = x + rows[index] + 700 + 1000 * index + 20000
    close(logits(model, params), head(params, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlp_width": -1}, "model.mlp_width must not be negative, got -1"),
        ({"norm_eps": 0.0}, "model.norm_eps must be positive, got 0.0"),
        ({"logit_cap": -2.0}, "model.logit_cap must be positive, got -2.0"),
    ],
)
def test_a_style_that_is_not_usable_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **options)
