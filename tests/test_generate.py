"""Decoding: equal to the parallel forward pass, independent of the batch, and ended where it should be."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq import generate as module
from jaxseq.data import ByteTokenizer
from jaxseq.generate import Sampling, generate
from jaxseq.model import LanguageModel, ModelConfig, declare

TOKENIZER = ByteTokenizer()
GREEDY = Sampling(temperature=0)
DRAWN = Sampling(temperature=0.8, top_k=50, top_p=0.95, seed=3)
ONE = Sampling(temperature=0.7, top_k=1)
PROMPTS = [b"", b"The quick brown", b"abc"]
CONTEXT = 2000


def build(*pattern, **options):
    """A tiny model with long memory and weights of twice the usual size, so that its outputs vary."""
    model = LanguageModel(ModelConfig(width=16, layers=len(pattern), pattern=pattern, options=options, mlp_width=0))
    random = np.random.default_rng(3)

    def draw(path, leaf):
        mean = {"nu_log": -4, "norm": 2, "skip": 1}.get(path[-1].key, 0)
        return jnp.asarray(random.normal(mean, 0.5, leaf.shape), jnp.float32)

    return model, jax.tree_util.tree_map_with_path(draw, meta.unbox(declare(model)))


@pytest.fixture(scope="module")
def models():
    return {
        "recurrent": build("para_rnn", "lru"),
        "attention": build("attention", "lru", attention={"heads": 2, "context": CONTEXT}),
        "window": build("attention", attention={"heads": 2, "window": 24}),
    }


@pytest.fixture
def recurrent(models):
    return models["recurrent"]


def answers(built, prompts, *, tokens=40, sampling=GREEDY, **options):
    return generate(*built, TOKENIZER, prompts, max_tokens=tokens, sampling=sampling, **options)


def ids_of(built, prompt=b"", *, tokens=40, sampling=GREEDY):
    """The ids of the answer to one prompt, (n,)."""
    ids = []
    answers(built, [prompt], tokens=tokens, sampling=sampling, on_token=lambda row, id: ids.append(id))
    return np.array(ids)


@partial(jax.jit, static_argnums=0)
def apply(function, params, tokens):
    return function({"params": params}, tokens)[0]


def best(built, prompt, ids, length=CONTEXT):
    """The most probable id at every place of the answer, (n,), by one parallel pass over the prompt and the answer."""
    model, params = built
    encoded = TOKENIZER.encode(prompt)
    tokens = np.zeros((1, length), np.int32)  # what follows the answer has no influence: the model is causal
    tokens[0, : len(encoded) + len(ids) - 1] = np.concatenate([encoded, ids])[:-1]
    logits = np.asarray(apply(model.apply, params, tokens))[0, len(encoded) - 1 :, : TOKENIZER.vocab]
    return np.argmax(logits[: len(ids)], axis=-1)


@pytest.mark.parametrize("name", ["recurrent", "attention"])
def test_two_thousand_greedy_tokens_equal_the_argmax_of_one_parallel_pass(models, name):
    ids = ids_of(models[name], tokens=2000)
    assert len(ids) == 2000
    assert len(np.unique(ids)) > 50
    np.testing.assert_array_equal(ids, best(models[name], b"", ids))


@pytest.mark.parametrize("name", ["recurrent", "attention"])
def test_greedy_tokens_after_a_prompt_equal_the_argmax_of_one_parallel_pass(models, name):
    ids = ids_of(models[name], PROMPTS[1], tokens=60)
    np.testing.assert_array_equal(ids, best(models[name], PROMPTS[1], ids))


@pytest.mark.parametrize(("name", "sampling"), [("recurrent", GREEDY), ("recurrent", DRAWN), ("attention", DRAWN)])
def test_an_answer_does_not_depend_on_its_batch(models, name, sampling):
    built = models[name]
    together = answers(built, PROMPTS, sampling=sampling)
    assert together == [answers(built, [prompt], sampling=sampling)[0] for prompt in PROMPTS]
    assert len(set(together)) == 3
    assert min(map(len, together)) > 5


def test_equal_prompts_get_different_answers_and_the_first_is_that_of_a_single_run(recurrent):
    together = answers(recurrent, [b"abc"] * 3, sampling=DRAWN)
    assert len(set(together)) == 3
    assert together[:1] == answers(recurrent, [b"abc"], sampling=DRAWN)


def test_a_seed_gives_one_answer_and_another_seed_another(recurrent):
    first, again, other = (answers(recurrent, [b"a"], sampling=replace(DRAWN, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_every_token_is_drawn_with_random_numbers_of_its_own(recurrent):
    model, params = recurrent
    uniform = model, params | {"head": jnp.zeros_like(params["head"])}
    assert len(np.unique(ids_of(uniform, sampling=DRAWN))) > 15


def test_top_k_1_is_greedy(recurrent):
    assert answers(recurrent, [b"abc"], sampling=ONE) == answers(recurrent, [b"abc"])


def test_a_row_ends_where_it_draws_bos_and_the_others_go_on(recurrent):
    model, params = recurrent
    ids = [ids_of(recurrent, prompt) for prompt in PROMPTS]
    last = next(id for id in ids[2][6:] if id not in ids[2][:6] and id not in ids[1])
    # bos wins wherever the last id would
    head = params["head"].at[:, TOKENIZER.bos].set(1.001 * params["head"][:, last])
    found = answers((model, params | {"head": head}), PROMPTS)
    assert found[2] == TOKENIZER.decode(ids[2][: list(ids[2]).index(last)])
    assert found[1] == TOKENIZER.decode(ids[1])


def test_tokens_are_streamed_in_order_and_are_the_answers(recurrent):
    seen = []
    texts = answers(recurrent, PROMPTS, tokens=7, on_token=lambda row, id: seen.append((row, id)))
    assert [row for row, _ in seen] == [0, 1, 2] * 7
    assert texts == [bytes(id for row, id in seen if row == i) for i in range(3)]


@pytest.mark.parametrize("name", ["recurrent", "attention", "window"])
def test_a_prompt_read_in_chunks_leaves_the_state_of_one_read_at_once(models, close, name):
    encoded = [TOKENIZER.encode(prompt) for prompt in (b"x" * 5, bytes(range(60, 100)), b"")]
    close(module._read(*models[name], encoded, chunk=16), module._read(*models[name], encoded))


def test_a_long_prompt_is_read_in_chunks_of_at_most_2048_tokens(recurrent, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        module, "advance", lambda apply, params, state, tokens, mask: shapes.append(tokens.shape) or (state, 1.0)
    )
    answers(recurrent, [bytes(5000)], tokens=1)
    assert shapes == [(1, 2048), (1, 2048), (1, 1024)]


def test_one_compiled_step_serves_all_tokens_and_seeds(recurrent, monkeypatch):
    traced, sample = [], module.sample
    monkeypatch.setattr(module, "sample", lambda *args: traced.append(0) or sample(*args))
    for seed in (7, 8):
        answers(recurrent, [b"abc"], tokens=50, sampling=replace(ONE, seed=seed))
    assert len(traced) <= 1


@pytest.mark.parametrize("name", ["recurrent", "attention", "window"])
def test_a_step_keeps_the_shapes_and_dtypes_of_the_state(models, name):
    model, params = models[name]
    state, token, keys = model.init_state(2), jnp.zeros(2, jnp.int32), jax.random.split(jax.random.key(0), 2)
    after = jax.eval_shape(lambda: module.decode_step(model.apply, params, state, token, keys, 0, GREEDY, 257)[1])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


def test_an_attention_model_answers_up_to_its_context_and_not_beyond():
    built = build("attention", attention={"heads": 2, "context": 26})
    ids = ids_of(built, PROMPTS[1], tokens=11)
    assert len(ids) == 11
    np.testing.assert_array_equal(ids, best(built, PROMPTS[1], ids, length=26))
    with pytest.raises(ValueError, match=r"model.options.attention.context = 26 must be at least .* 16 tokens .* = 27"):
        answers(built, [b"", PROMPTS[1]], tokens=12)


def test_logits_that_are_not_finite_raise(recurrent):
    model, params = recurrent
    broken = params | {"norm": params["norm"].at[0].set(jnp.nan)}
    with pytest.raises(FloatingPointError, match="logits must be finite, got NaN or inf at token 0 of prompt 0"):
        answers((model, broken), [b"abc"])


def test_a_prompt_that_the_solver_did_not_solve_warns():
    built = build("para_rnn", para_rnn={"max_iterations": 1, "tolerance": 1e-12, "on_failure": "return"})
    with pytest.warns(RuntimeWarning, match="did not converge on a prompt"):
        answers(built, [b"abc"], tokens=1)


@pytest.mark.parametrize(
    ("prompts", "tokens", "message"),
    [
        ([], 1, "prompts must hold at least one prompt, got none"),
        (b"abc", 1, "prompts must be a sequence of bytes, got b'abc'"),
        (["abc"], 1, r"prompts must be a sequence of bytes, got \['abc'\]"),
        ([b"abc"], 0, "max_tokens must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(recurrent, prompts, tokens, message):
    with pytest.raises(ValueError, match=message):
        answers(recurrent, prompts, tokens=tokens)


def test_a_vocabulary_smaller_than_the_tokenizers_raises():
    with pytest.raises(ValueError, match=r"model.vocab = 256 must hold the tokenizer's 257 ids"):
        answers((LanguageModel(ModelConfig(vocab=256, pattern=("lru",))), {}), [b""])
