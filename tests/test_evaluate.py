"""Evaluation: equal to float64 sums over the logits of one long pass, whatever the windows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.evaluate import BOUNDS, bucket_of, evaluate, positions, table
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.sharding import batch_sharding, make_mesh, shardings

BOS = 256
TOKEN_BYTES = np.append(np.ones(256), 0)
ROWS, LENGTH = 4, 48


def build(*pattern, **options):
    """A tiny model with long memory and weights of twice the usual size, so that its outputs vary."""
    model = LanguageModel(ModelConfig(width=16, layers=len(pattern), pattern=pattern, options=options, mlp_width=0))
    random = np.random.default_rng(0)

    def draw(path, leaf):
        mean = {"nu_log": -4, "norm": 2, "skip": 1}.get(path[-1].key, 0)
        return jnp.asarray(random.normal(mean, 0.5, leaf.shape), jnp.float32)

    return model, jax.tree_util.tree_map_with_path(draw, meta.unbox(declare(model)))


@pytest.fixture(scope="module")
def built():
    return build("para_rnn", "lru", para_rnn={"heads": 2})


@pytest.fixture(scope="module")
def text():
    """tokens (ROWS, LENGTH + 1): documents of all lengths, one of them open at both ends; and some padding."""
    random = np.random.default_rng(0)
    tokens = np.where(random.random((ROWS, LENGTH + 1)) < 0.1, BOS, random.integers(0, 256, (ROWS, LENGTH + 1)))
    tokens[0] = np.minimum(tokens[0], 255)
    weight = np.ones((ROWS, LENGTH), np.float32)
    weight[1, 40:] = 0
    weight[2, 10:20] = 0.5
    return {"tokens": tokens.astype(np.int32), "reset": tokens[:, :-1] == BOS, "weight": weight}


def windows(text, length=16):
    """The text in windows that overlap by the token that is a target in one and an input in the next."""
    for start in range(0, text["reset"].shape[1], length):
        part = {name: text[name][:, start : start + length] for name in ("reset", "weight")}
        yield part | {"tokens": text["tokens"][:, start : start + length + 1]}


def run(built, batches, **options):
    return evaluate(*built, batches, token_bytes=TOKEN_BYTES, **options)


@pytest.fixture(scope="module")
def expected(built, text):
    """nats, weight, bytes of every target in float64, and the position of its input, from one pass over all tokens."""
    model, params = built
    tokens, reset = text["tokens"], text["reset"]
    logits = np.asarray(jax.jit(model.apply)({"params": params}, tokens[:, :-1], reset=reset)[0], np.float64)
    chosen = np.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    nats = np.log(np.sum(np.exp(logits), axis=-1)) - chosen
    position = np.zeros(reset.shape, int)
    for t in range(reset.shape[1]):
        position[:, t] = np.where(reset[:, t], 0, position[:, t - 1] + 1 if t else 0)
    return nats, text["weight"].astype(np.float64), tokens[:, 1:] != BOS, position


def test_the_totals_are_those_of_one_long_pass_in_float64(built, text, expected, close):
    nats, weight, byte, _ = expected
    found = run(built, windows(text))
    total = np.sum(nats * weight)
    close(found.nats_per_token, total / np.sum(weight))
    close(found.bits_per_byte, total / np.log(2) / np.sum(byte * weight))
    close(found.perplexity, np.exp(total / np.sum(weight)), "bfloat16")
    assert found.perplexity == np.exp(found.nats_per_token)
    assert (found.tokens, found.bytes) == (np.sum(weight), np.sum(byte * weight))
    assert found.bytes < found.tokens


def test_the_buckets_hold_the_mean_loss_at_each_distance_from_the_documents_start(built, text, expected, close):
    nats, weight, _, position = expected
    found = run(built, windows(text))
    bounds = [0, 1, 2, 4, 8, 16, 32]
    np.testing.assert_array_equal(found.position, bounds)
    for i, (low, high) in enumerate(zip(bounds, [*bounds[1:], 64], strict=True)):
        inside = weight * ((position >= low) & (position < high))
        assert found.position_tokens[i] == np.sum(inside)
        close(found.position_nats[i], np.sum(nats * inside) / np.sum(inside))


def test_the_buckets_sum_to_the_total(built, text, close):
    found = run(built, windows(text))
    assert np.sum(found.position_tokens) == found.tokens
    close(np.sum(found.position_nats * found.position_tokens), found.nats_per_token * found.tokens, "float64")


def test_the_result_does_not_depend_on_the_windows(built, text, close):
    first, other = run(built, windows(text)), run(built, windows(text, 48))
    close(other.position_nats, first.position_nats)
    np.testing.assert_array_equal(other.position_tokens, first.position_tokens)


def test_more_windows_than_wait_on_the_device_are_all_counted(built, text, close):
    window = next(windows(text))
    window["reset"] = window["reset"] | (np.arange(16) == 0)
    once, often = run(built, [window]), run(built, [window] * 35)
    assert often.tokens == 35 * once.tokens
    close(often.position_nats, once.position_nats)


def test_max_batches_stops_early_and_takes_no_more(built, text):
    batches = windows(text)
    assert run(built, batches, max_batches=2).tokens == np.sum(text["weight"][:, :32])
    assert len(list(batches)) == 1


def test_a_uniform_model_has_log2_vocab_bits_per_token(built, text, close):
    model, params = built
    found = run((model, params | {"head": jnp.zeros_like(params["head"])}), windows(text))
    close(found.bits_per_byte, np.log2(264) * found.tokens / found.bytes)
    close(found.perplexity, 264.0)


def test_bytes_are_counted_by_the_table(built, text):
    found = evaluate(*built, windows(text), token_bytes=3 * TOKEN_BYTES)
    assert found.bytes == 3 * np.sum(text["weight"] * (text["tokens"][:, 1:] != BOS))


def test_a_target_beyond_the_table_has_no_number_of_bytes(built, text):
    found = evaluate(*built, windows(text), token_bytes=np.ones(250))
    assert np.isnan(found.bits_per_byte)
    assert np.isfinite(found.nats_per_token)


def test_nan_parameters_give_nan(built, text):
    model, params = built
    found = run((model, params | {"norm": params["norm"] * jnp.nan}), windows(text))
    assert np.isnan([found.bits_per_byte, found.nats_per_token, found.perplexity, *found.position_nats]).all()
    assert np.isnan(found.to_json()["bits_per_byte"])


def test_the_loss_of_a_target_without_weight_is_not_looked_at(text, close):
    model, params = build("lru")  # where a NaN stays in its own time step, as the last input's must
    broken = model, params | {"embedding": params["embedding"].at[7].set(jnp.nan)}
    window = {name: array.copy() for name, array in next(windows(text)).items()}
    window["tokens"][window["tokens"] == 7] = 8
    window["tokens"][0, 15] = 7
    assert np.isnan(run(broken, [window]).nats_per_token)
    window["weight"][0, 15] = 0
    close(run(broken, [window]).position_nats, run((model, params), [window]).position_nats)


def test_sequences_that_the_solver_did_not_solve_are_reported(built, text):
    assert run(built, windows(text)).converged == 1
    found = run(
        build("para_rnn", para_rnn={"max_iterations": 1, "tolerance": 1e-12, "on_failure": "return"}), windows(text)
    )
    assert found.converged < 1
    assert "did not converge" in table(found)


def test_a_sharded_model_gives_the_same_numbers(built, text, close):
    model, params = built
    mesh = make_mesh((2, 2, 2, 1))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings(mesh, declare(model)))
        batches = [jax.device_put(batch, batch_sharding(mesh)) for batch in windows(text)]
        found = run((model, placed), batches)
    close(found.position_nats, run(built, windows(text)).position_nats)


def test_positions_count_from_the_last_reset_or_from_what_was_read_before():
    reset = np.array([[0, 0, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    found = positions(jnp.asarray(reset), jnp.array([5, 5, 0]))
    np.testing.assert_array_equal(found, [[5, 6, 0, 1, 2], [0, 1, 0, 0, 1], [0, 1, 2, 3, 4]])


def test_every_position_is_in_the_bucket_between_its_bounds():
    position = np.array([0, 1, 2, 3, 4, 7, 8, 2**20 - 1, 2**20, 2**20 + 1, 2**31 - 1])
    expected = np.searchsorted(BOUNDS, position, side="right") - 1
    np.testing.assert_array_equal(bucket_of(jnp.asarray(position, jnp.int32)), expected)


def test_the_result_is_json_and_a_table(built, text):
    found = run(built, windows(text))
    data = json.loads(json.dumps(found.to_json()))
    assert data["bits_per_byte"] == found.bits_per_byte
    assert data["position"] == [0, 1, 2, 4, 8, 16, 32]
    assert data["position_nats"] == found.position_nats.tolist()
    lines = table(found).splitlines()
    assert [line.split()[0] for line in lines[1:9]] == ["0+", "1+", "2+", "4+", "8+", "16+", "32+", "all"]
    assert f"{found.position_nats[3]:.4f}" in lines[4]
    assert lines[9].startswith(f"{found.bits_per_byte:.4f} bits per byte")
    assert lines[10].startswith(f"largest |dstep/dh| {found.jacobian:.3g}, growth {found.growth:.3g} nats per step")
    assert 0 < found.jacobian < 1
    assert found.growth < 0


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"max_batches": 0}, "max_batches must be at least 1, or None, got 0"),
        ({}, {"token_bytes": np.ones((2, 2))}, r"token_bytes must have shape \(tokens,\), got \(2, 2\)"),
        ({}, {"token_bytes": np.zeros(257)}, "token_bytes must give some target of batches a size above 0"),
        ({"weight": np.zeros((ROWS, LENGTH), np.float32)}, {}, "batches must hold a target of weight above 0"),
    ],
)
def test_wrong_arguments_are_named(built, text, change, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*built, windows(text | change), **({"token_bytes": TOKEN_BYTES} | options))
