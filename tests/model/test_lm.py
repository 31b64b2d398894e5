"""The language model with three kinds of mixers in its stack."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.model.loss import cross_entropy, token_nats
from jaxseq.sharding import is_declared

B, T, D, VOCAB, HIDDEN = 3, 12, 16, 19, 24
CONFIG = ModelConfig(
    vocab=VOCAB,
    width=D,
    layers=6,
    pattern=("para_rnn", "lru", "attention"),
    options={"attention": {"heads": 4, "kv_heads": 2, "window": 5}},
    mlp_width=HIDDEN,
    remat="none",
)
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (B, T))


def declared(config):
    return jax.eval_shape(LanguageModel(config).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]


@pytest.fixture(scope="module")
def model():
    return LanguageModel(CONFIG)


@pytest.fixture(scope="module")
def params():
    """Random numbers in every parameter, in the place of an initialisation that would have to be compiled."""
    rng = np.random.default_rng(0)

    def one(path, leaf):
        x = rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[-2] if leaf.ndim > 1 else 4)
        is_gain = path[-1].key.endswith("norm") or path[-1].key == "skip"
        return jnp.asarray(x / 4 + 1 if is_gain else x, np.float32)

    return jax.tree_util.tree_map_with_path(one, meta.unbox(declared(CONFIG)))


@pytest.fixture(scope="module")
def run(model, params):
    apply = jax.jit(model.apply)

    def run(tokens, state=None, reset=None, mask=None):
        """(logits, state), with nothing left out, so that a length is compiled once."""
        state = model.init_state(len(tokens)) if state is None else state
        reset = np.zeros(tokens.shape, bool) if reset is None else reset
        mask = np.ones(tokens.shape, bool) if mask is None else mask
        return apply({"params": params}, tokens, state=state, reset=reset, mask=mask)

    return run


def test_single_steps_are_the_whole(run, close):
    state, parts = None, []
    for t in range(T):
        logits, state = run(TOKENS[:, t : t + 1], state)
        parts.append(logits)
    close((jnp.concatenate(parts, axis=1), state), run(TOKENS))


def test_nothing_given_is_an_empty_state_without_resets_or_padding(model, params, run, close):
    close(jax.jit(model.apply)({"params": params}, TOKENS), run(TOKENS))


def test_the_state_is_like_init_state(model, run):
    def kind(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    assert kind(run(TOKENS)[1]) == kind(model.init_state(B))


@pytest.mark.parametrize("where", ["left", "right", "interleaved"])
def test_padding_changes_nothing(run, where, close):
    places = {"left": np.arange(4, T), "right": np.arange(T - 4), "interleaved": np.array([0, 2, 3, 5, 6, 8, 10, 11])}
    mask = np.zeros((B, T), bool)
    mask[:, places[where]] = True
    tokens = np.full((B, T), VOCAB - 1)
    tokens[mask] = TOKENS[:, : T - 4].ravel()
    logits, state = run(tokens, mask=mask)
    close((logits[:, places[where]], state), run(TOKENS[:, : T - 4]))


def test_packed_documents_are_separate_runs(run, close):
    reset = np.zeros((B, T), bool)
    reset[:, T - 8] = True
    logits, state = run(TOKENS, run(TOKENS[::-1])[1], reset)
    alone, alone_state = run(TOKENS[:, T - 8 :])
    close((logits[:, T - 8 :], state), (alone, alone_state))


def test_no_logits_depend_on_a_later_token(run, close):
    """Beyond rounding: how often Newton iterates on a sequence depends on all of it."""
    changed = TOKENS.copy()
    changed[:, 7] = (changed[:, 7] + 1) % VOCAB
    before, after = run(TOKENS)[0], run(changed)[0]
    close(after[:, :7], before[:, :7])
    assert bool(jnp.all(jnp.max(jnp.abs(after - before), axis=(0, 2))[7:] > 1e-3))


def loss_and_gradient(config, params, **options):
    def loss(params):
        logits, _ = LanguageModel(replace(config, **options)).apply({"params": params}, TOKENS)
        nats, z, _ = cross_entropy(logits, jnp.roll(TOKENS, -1, axis=1), jnp.ones((B, T)))
        return nats + 1e-2 * z

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.fixture(scope="module")
def everything_kept(params):
    return loss_and_gradient(CONFIG, params)


@pytest.mark.slow
def test_what_is_recomputed_changes_neither_loss_nor_gradient(params, close):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        kept = loss_and_gradient(CONFIG, wide, dtype="float64")
        for remat in ("dots", "states", "full"):
            close(loss_and_gradient(CONFIG, wide, dtype="float64", remat=remat), kept, "float64")


def test_every_parameter_has_a_gradient(everything_kept):
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(everything_kept[1])
        if not float(jnp.max(jnp.abs(leaf))) > 0
    ]
    assert not dead


def test_bfloat16_activations_give_float32_logits_near_those_of_float32(params):
    config = replace(CONFIG, layers=3)
    one = {**params, "layers": jax.tree.map(lambda x: x[:1], params["layers"])}
    wide, narrow = (
        jax.jit(LanguageModel(replace(config, dtype=dtype)).apply)({"params": one}, TOKENS)
        for dtype in ("float32", "bfloat16")
    )
    assert jax.tree.map(lambda x: x.dtype, narrow) == jax.tree.map(lambda x: x.dtype, wide)
    assert 0 < np.linalg.norm(narrow[0] - wide[0]) < 2e-2 * np.linalg.norm(wide[0])


def test_a_tied_head_is_the_embedding(params, model, close):
    tied = {name: value for name, value in params.items() if name != "head"}
    untied = {**tied, "head": tied["embedding"].T}
    assert "head" not in declared(replace(CONFIG, tied=True))
    logits, _ = jax.jit(LanguageModel(replace(CONFIG, tied=True)).apply)({"params": tied}, TOKENS)
    close(logits, jax.jit(model.apply)({"params": untied}, TOKENS)[0])


def test_layers_are_stacked_along_a_first_axis_named_layers():
    layers = jax.tree.leaves(declared(CONFIG)["layers"], is_leaf=is_declared)
    assert {leaf.axes[0] for leaf in layers} == {"layers"}
    assert {leaf.value.shape[0] for leaf in layers} == {2}
    assert all(len(leaf.axes) == leaf.value.ndim for leaf in layers)


def test_layers_of_a_stack_have_parameters_of_their_own():
    model = LanguageModel(replace(CONFIG, layers=2, pattern=("lru",), mlp_width=0))
    params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))["params"]
    w = params["layers"]["block_0"]["mixer"]["w_in"]
    assert not np.any(w[0] == w[1])


@pytest.mark.parametrize(("tied", "residual_scale", "hidden"), [(False, True, HIDDEN), (True, False, 0)])
def test_the_number_of_parameters_is_the_formula_s(tied, residual_scale, hidden):
    config = replace(CONFIG, tied=tied, residual_scale=residual_scale, mlp_width=hidden)
    para_rnn = 2 * D * D + (4 + 1) * D + (3 * D * D + 2 * 3 * D) + D + D * D
    lru = 3 * D + 2 * 2 * D * D + D + 2 * D * D
    attention = D * (4 + 2 * 2) * (D // 4) + D * D
    around = residual_scale + D + (D + 3 * D * hidden if hidden else 0)
    wanted = (1 if tied else 2) * VOCAB * D + D + 2 * (para_rnn + lru + attention + 3 * around)
    assert sum(leaf.size for leaf in jax.tree.leaves(declared(config))) == wanted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": ("para_run",)}, "model.pattern.para_run: no such field; did you mean 'model.pattern.para_rnn'?"),
        ({"options": {"lrv": {}}}, "model.options.lrv: no such field; did you mean 'model.options.lru'?"),
        (
            {"options": {"attention": {"windw": 3}}},
            "model.options.attention.windw: no such field; did you mean 'model.options.attention.window'?",
        ),
        ({"options": {"lru": {"parent": None}}}, "model.options.lru.parent: no such field"),
        ({"options": {"attention": {"heads": 2.5}}}, "model.options.attention.heads: wanted int, got 2.5"),
        ({"options": {"attention": {"window": "8"}}}, "model.options.attention.window: wanted int or None, got '8'"),
        ({"layers": 5}, "model.layers = 5 must be a multiple of 3, the pattern's"),
        ({"pattern": ()}, "must be a multiple of 0, the pattern's"),
        ({"vocab": 0}, "model.vocab must be at least 1, got 0"),
    ],
)
def test_a_wrong_field_is_named_with_the_nearest_right_one(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(CONFIG, **fields)


def test_the_loss_is_the_formula_s_in_float64(close):
    rng = np.random.default_rng(0)
    logits, weight = (10 * rng.normal(size=(B, T, VOCAB))).astype(np.float32), rng.random((B, T)).astype(np.float32)
    wide = logits.astype(np.float64)
    normaliser = np.log(np.sum(np.exp(wide), axis=-1))
    nats = normaliser - np.take_along_axis(wide, TOKENS[..., None], axis=-1)[..., 0]
    loss = cross_entropy(jnp.asarray(logits), TOKENS, jnp.asarray(weight))
    close(tuple(loss), (np.sum(nats * weight), np.sum(normaliser**2 * weight), np.sum(weight.astype(np.float64))))
    close(token_nats(jnp.asarray(logits), TOKENS), (nats, normaliser))


def test_the_loss_of_huge_bfloat16_logits_is_summed_in_float32(close):
    logits = jnp.full((1, 2, 3), 1e4, jnp.bfloat16)
    loss = cross_entropy(logits, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2)))
    assert loss.nats.dtype == jnp.float32
    close(loss.nats, 2 * np.log(3), "bfloat16")


def test_a_token_of_no_weight_changes_neither_loss_nor_gradient(close):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 3)), np.float32)
    targets, weight = jnp.zeros((1, 2), jnp.int32), jnp.array([[1.0, 0.0]])
    gradient = jax.grad(lambda logits: cross_entropy(logits, targets, weight).nats)(logits)
    assert bool(jnp.all(gradient[:, 1] == 0))
    assert float(cross_entropy(logits, targets, weight).weight) == 1
