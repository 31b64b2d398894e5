"""exponential_attention against lax.scan in float64, and that its units cancel."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import reference
from jaxseq.ops.exponential_attention import exponential_attention

METHODS = ("chunked", "associative", "sequential")
B, T, G, H, K, V, CHUNK = 2, 11, 2, 4, 4, 3, 4
attend = jax.jit(partial(exponential_attention, scale=0.5, chunk=CHUNK), static_argnames="method")
chunked = partial(attend, method="chunked")  # compiled once for all that does not ask for another method


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def problem():
    """The arrays and the flags: resets within chunks and at padding, padding at a row's start and end."""
    x = {"q": random(1, B, T, G, K), "k": random(2, B, T, G, K), "v": random(3, B, T, H, V)}
    x |= {"log_a": np.log(np.random.default_rng(4).uniform(0.2, 1, (B, T, H))).astype(np.float32)}
    x |= {"log_i": 3 * random(5, B, T, H), "state": (random(6, B, H, K, V), random(7, B, H, K), random(8, B, H))}
    reset, mask = np.zeros((B, T), bool), np.ones((B, T), bool)
    reset[0, [4, 6, 9]], reset[1, 2] = True, True
    mask[0, 0], mask[1, [2, 8, 9, 10]] = False, False
    return x, {"reset": reset, "mask": mask}


def fraction(num, den, m):
    """The mLSTM's output: what a caller makes of them."""
    return num / jnp.maximum(jnp.abs(den), jnp.exp(-m))[..., None]


def counted(run, x, options):
    """The results, without what is unspecified at padding."""
    num, den, m, state = run(**x, **options)
    seen = options["mask"]
    return (*(jnp.where(seen.reshape(B, T, *(1,) * (y.ndim - 2)), y, 0) for y in (num, den, m)), state)


def gradients(run, x, options):
    y, pull = jax.vjp(lambda x: counted(run, x, options), x)
    return y, pull(jax.tree.map(jnp.cos, y))[0]


@cache
def expected(function):
    with jax.enable_x64(True):
        x = jax.tree.map(lambda x: jnp.asarray(x, np.float64), problem()[0])
        run = partial(function, partial(reference.exponential_attention, scale=0.5))
        return jax.tree.map(np.asarray, jax.jit(run)(x, problem()[1]))


@pytest.mark.slow
def test_values_and_gradients_are_the_reference_s(close):
    run = partial(exponential_attention, scale=0.5, chunk=CHUNK, method="sequential")
    close(jax.jit(partial(gradients, run))(*problem()), expected(gradients))


@pytest.mark.parametrize("method", METHODS)
def test_values_of_every_method_are_the_reference_s(method, close):
    close(counted(partial(attend, method=method), *problem()), expected(counted))


def test_another_unit_for_the_state_changes_nothing_that_is_computed_from_it(close):
    x, options = problem()

    def result(x):
        num, den, m, (S, n, last) = counted(chunked, x, options)
        return fraction(num, den, m), jnp.exp(last)[..., None, None] * S, jnp.exp(last)[..., None] * n

    S, n, m = x["state"]
    shift = np.float32(np.linspace(-9, 9, B * H).reshape(B, H))
    moved = (S * np.exp(-shift)[..., None, None], n * np.exp(-shift)[..., None], m + shift)
    close(result(x | {"state": moved}), result(x))


def test_the_unit_of_an_empty_state_is_of_no_consequence(close):
    x, options = problem()
    zero = (np.zeros((B, H, K, V), np.float32), np.zeros((B, H, K), np.float32))
    wanted = fraction(*counted(chunked, x | {"state": None}, options)[:3])
    for unit in (-1e30, 0.0, 5.0):
        state = (*zero, np.full((B, H), unit, np.float32))
        close(fraction(*counted(chunked, x | {"state": state}, options)[:3]), wanted)


def test_weights_of_any_size_cancel(close):
    x, options = problem()
    x["state"] = None
    x["log_i"] = np.round(64 * x["log_i"]) / 64  # so that adding to it is exact
    num, den, m, _ = counted(chunked, x, options)
    for shift in (300, -300):
        shifted = counted(chunked, x | {"log_i": x["log_i"] + np.float32(shift)}, options)
        close(shifted[:2], (num, den), "bfloat16")
        seen = options["mask"][..., None]
        close(jnp.where(seen, shifted[2] - shift, 0), m)


def test_nothing_has_been_seen_before_the_first_step_that_counts():
    x, options = problem()
    options = {"reset": options["reset"], "mask": np.arange(T) >= np.full((B, 1), 3)}
    num, den, m, _ = chunked(**x | {"state": None}, **options)
    assert np.all(num[:, :3] == 0)
    assert np.all(den[:, :3] == 0)
    assert np.all(m[:, :3] == np.float32(-1e30))


def test_a_prompt_and_one_step_from_its_state_are_the_whole(close):
    x, options = problem()
    options["mask"][1, -1] = True
    parts = []
    for part in (slice(T - 1), slice(T - 1, None)):
        timed = {key: value[:, part] for key, value in (x | options).items() if key != "state"}
        *y, x["state"] = attend(**timed, state=x["state"], method="sequential")
        parts.append(y)
    joined = tuple(jnp.concatenate(pair, axis=1) for pair in zip(*parts, strict=True))
    whole = counted(chunked, *(problem()[0], options))
    close(counted(lambda **_: (*joined, x["state"]), {}, options), whole)


@pytest.mark.parametrize("spoiled", ["q", "k", "v", "log_a", "log_i"])
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_stays_in_its_document_and_after_its_step(method, spoiled):
    x, _ = problem()
    options = {"reset": np.arange(T) == np.full((B, 1), 7), "mask": np.ones((B, T), bool)}
    clean = attend(**x, **options, method=method)
    x[spoiled] = x[spoiled].copy()
    x[spoiled][1, 5] = np.nan
    num, *_, state = attend(**x, **options, method=method)
    reached = np.zeros((B, T), bool)
    reached[1, 5 : 6 if spoiled == "q" else 7] = True
    assert np.array_equal(np.all(np.isnan(num), axis=(2, 3)), reached)
    assert np.all((num == clean[0]) | reached[..., None, None])
    assert jax.tree.all(jax.tree.map(lambda a, b: np.all(a == b), state, clean[3]))


def test_results_have_the_values_dtype_and_states_are_wide():
    x, options = problem()
    x = x | {key: jnp.asarray(x[key], jnp.bfloat16) for key in "qkv"}
    num, *others = jax.eval_shape(exponential_attention, **x, **options)
    assert num.dtype == jnp.bfloat16
    assert {y.dtype for y in jax.tree.leaves(others)} == {np.dtype(np.float32)}


GATES = np.ones((B, T, H), np.float32)
WRONG = {
    "log_i must be float32 or wider (a decay of 0.999 rounds to 1 in bfloat16), got bfloat16": {
        "log_i": GATES.astype(jnp.bfloat16)
    },
    "log_a must be float32 or wider (a decay of 0.999 rounds to 1 in float16), got float16": {
        "log_a": GATES.astype(np.float16)
    },
    "log_a must have shape (B T H), got (2, 11, 4, 4)": {"log_a": np.ones((B, T, H, K), np.float32)},
    "log_i must have shape (B T H) with H = 4, got (2, 11, 3)": {"log_i": GATES[..., 1:]},
    "m must have shape (B H) with H = 4, got (2, 3)": {"state": (*problem()[0]["state"][:2], GATES[:, 0, 1:])},
    "method must be one of auto, chunked, associative, sequential, got 'fast'": {"method": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        jax.eval_shape(lambda: exponential_attention(**{**problem()[0], **WRONG[message]}))
