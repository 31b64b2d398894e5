"""delta_rule, dplr_attention and rwkv7_attention against lax.scan in float64: values and gradients."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.delta_rule import delta_rule, rwkv7_attention
from jaxseq.ops.dplr import dplr_attention
from tests.ops.delta_cases import (
    BETA,
    COTANGENT,
    FLAGS,
    KEY,
    LOG_A,
    MASK,
    RESET,
    STATE,
    VALUE,
    WIDE,
    A,
    B,
    C,
    G,
    H,
    K,
    Q,
    T,
    arguments,
    compiled,
    expected,
    forward,
    in_float64,
    random,
    sigmoid,
    unit,
    untyped,
)

MATRIX = [
    ("delta_rule", "scalar", "chunked"),
    ("delta_rule", "vector", "chunked"),
    ("delta_rule", "none", "sequential"),
    ("delta_rule", "vector", "sequential"),
    ("dplr_attention", "vector", "chunked"),
    ("dplr_attention", "vector", "sequential"),
]


@pytest.mark.parametrize(("op", "decay", "method"), MATRIX)
def test_values_and_gradients_are_the_reference_s(op, decay, method, close):
    named = arguments(op, decay)
    close(compiled(op, decay, method)(named, COTANGENT), expected(op, decay, named))


def test_float64_is_not_rounded(close):
    named = arguments("delta_rule", "none")
    run = compiled("delta_rule", "none", "associative")
    close(in_float64(run, named), expected("delta_rule", "none", named), "float64")


def test_bfloat16_sums_in_float32(close):
    named = arguments("delta_rule", "scalar")
    half = {n: x if n in ("log_a", "state") else jnp.asarray(x, jnp.bfloat16) for n, x in named.items()}
    y, state = forward(**half, **FLAGS, chunk=C)
    wanted_y, wanted_state = expected("delta_rule", "scalar", named)[0]
    assert y.dtype == jnp.bfloat16
    assert state.dtype == jnp.float32
    close(0.5 * y.astype(np.float32) * MASK[..., None, None], wanted_y, "bfloat16")
    close(state, wanted_state)


EXTREMES = {
    "repeated keys": {"k": np.broadcast_to(KEY[:, :1], KEY.shape), "beta": np.full_like(BETA, 1.9)},
    "nearly repeated keys": {"k": unit(KEY[:, :1] + 1e-2 * KEY), "beta": np.full_like(BETA, 1.9)},
    "no write": {"beta": np.zeros_like(BETA)},
    "all forgotten": {"beta": np.ones_like(BETA), "log_a": np.full((B, T, H), -50, np.float32)},
    "nothing forgotten": {"log_a": np.zeros((B, T, H), np.float32)},
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_gates_and_keys_are_no_exception(name, close):
    named = {**arguments("delta_rule", "scalar"), **EXTREMES[name]}
    close(compiled("delta_rule", "scalar")(named, COTANGENT), expected("delta_rule", "scalar", named))


def test_beta_zero_only_decays_the_state(close):
    named = {**arguments("delta_rule", "scalar"), "beta": np.zeros_like(BETA)}
    state = forward(**named, reset=np.zeros((B, T), bool), mask=MASK, chunk=C)[1]
    decay = np.exp(np.sum(LOG_A["scalar"] * MASK[..., None], axis=1, dtype=np.float64))
    close(state, decay[..., None, None] * STATE)


def test_delta_rule_is_the_general_form_with_substituted_arguments(close):
    named, log_a = arguments("delta_rule", "scalar"), LOG_A["scalar"]
    q, k = (np.repeat(x, H // G, axis=2) for x in (Q, KEY))
    a, b = np.exp(log_a)[..., None] * k, -BETA[..., None] * k
    general = jax.jit(partial(dplr_attention, chunk=C, method="chunked"))
    close(general(q, -b, VALUE, a, b, log_a, STATE, **FLAGS), forward(**named, **FLAGS, chunk=C))


def test_rwkv7_is_its_equation(close):
    r, k, eta, log_w = *WIDE.values(), sigmoid(random(13, B, T, H, K)), -0.6 * sigmoid(random(14, B, T, H, K))
    S, wanted = STATE.swapaxes(-1, -2).astype(np.float64), []  # (value, key), as in the paper
    for t in range(T):
        removed = (S @ A[:, t, ..., None]) * (A * eta)[:, t, ..., None, :]
        S = S * np.exp(log_w[:, t, ..., None, :].astype(np.float64)) - removed
        S = S + VALUE[:, t, ..., None] * k[:, t, ..., None, :]
        wanted.append((S @ r[:, t, ..., None])[..., 0])
    run = jax.jit(partial(rwkv7_attention, method="sequential"))
    close(run(r, log_w, k, VALUE, A, eta, STATE), (np.stack(wanted, axis=1), S.swapaxes(-1, -2)))


def test_rwkv7_multiplies_bfloat16_keys_and_rates_in_float32(close):
    r, k, eta, log_w = *WIDE.values(), sigmoid(random(13, B, T, H, K)), -0.6 * sigmoid(random(14, B, T, H, K))
    run = partial(rwkv7_attention, method="sequential")  # inside jit XLA for CPU does not round the product anyway
    half = run(r, log_w, k, VALUE, jnp.asarray(A, jnp.bfloat16), jnp.asarray(eta, jnp.bfloat16), STATE)
    close(half, run(r, log_w, k, VALUE, A, eta, STATE))


@pytest.mark.slow
def test_the_length_of_a_chunk_does_not_matter(close):
    named = arguments("delta_rule", "scalar")
    close(forward(**named, **FLAGS, chunk=64), forward(**named, **FLAGS, chunk=C))


def test_one_step_is_a_sequence_too(close):
    named = {name: x if name == "state" else x[:, :1] for name, x in arguments("delta_rule", "scalar").items()}
    S = np.exp(named["log_a"].astype(np.float64))[:, 0, :, None, None] * STATE
    change = BETA[:, 0, :, None] * (VALUE[:, 0] - np.einsum("bhkv,bk->bhv", S, KEY[:, 0, 0]))
    S = S + np.einsum("bk,bhv->bhkv", KEY[:, 0, 0], change)
    close(forward(**named, chunk=C), (np.einsum("bhkv,bk->bhv", S, Q[:, 0, 0])[:, None], S))


@pytest.mark.slow
def test_vmap_of_a_scan_with_remat_is_a_loop(close):
    named = arguments("delta_rule", "scalar")
    stacked = {name: np.stack([x, x[::-1]])[:, None] for name, x in named.items()}
    run = jax.checkpoint(lambda named: untyped(**named, chunk=C, method="chunked", **FLAGS))
    mapped = jax.jit(jax.vmap(lambda named: jax.lax.scan(lambda _, x: (None, run(x)), None, named)[1]))(stacked)
    loop = [forward(**{n: x[i, 0] for n, x in stacked.items()}, **FLAGS, chunk=C) for i in range(2)]
    close(mapped, jax.tree.map(lambda *x: jnp.stack(x)[:, None], *loop))


def sizes(jaxpr):
    """The number of entries of every array that a program makes, inner programs too."""
    for equation in jaxpr.eqns:
        yield from (int(np.prod(x.aval.shape)) for x in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


@pytest.mark.parametrize("decay", LOG_A)
def test_training_in_chunks_makes_no_state_per_step_and_keeps_little(decay):
    time, size, heads = 128, 32, 2
    x, gate = jnp.ones((1, time, heads, size)), jnp.ones((1, time, heads))
    log_a = {"none": [], "scalar": [gate], "vector": [x]}[decay]
    run = partial(jax.vjp, partial(delta_rule, chunk=32, method="chunked"))

    def gradient(*args):
        y, pull = run(*args)
        return pull(y)

    program = jax.make_jaxpr(gradient)(x, x, x, gate, *log_a)
    assert max(sizes(program.jaxpr)) < time * heads * size * size // 4
    kept = jax.tree.leaves(jax.eval_shape(lambda *args: run(*args)[1], x, x, x, gate, *log_a))
    assert sum(y.size for y in kept) < 6 * 3 * x.size  # 11 to 21 times 3 x.size if nothing is made again


WRONG = {
    "k must have shape (B T G K) with T = 21, got (2, 20, 1, 4)": {"k": KEY[:, 1:]},
    "v must have shape (B T H V), got (2, 21, 2)": {"v": VALUE[..., 0]},
    "beta must have shape (B T H) with H = 2, got (2, 21, 1)": {"beta": BETA[..., :1]},
    "beta must be floating point or complex, got dtype int32": {"beta": BETA.astype(np.int32)},
    "v must be real, got dtype complex64": {"v": VALUE.astype(np.complex64)},
    "the heads of q must divide those of v, got 3 and 2": {"q": np.ones((B, T, 3, K)), "k": np.ones((B, T, 3, K))},
    "log_a must be float32 or wider (a decay of 0.999 rounds to 1 in bfloat16), got bfloat16": {
        "log_a": LOG_A["scalar"].astype(jnp.bfloat16)
    },
    "log_a must have shape (2, 21, 2) or (2, 21, 2, 4), got (2, 21, 2, 3)": {"log_a": VALUE},
    "state must have shape (2, 2, 4, 3), got (2, 2, 3, 4)": {"state": STATE.swapaxes(-1, -2)},
    "reset must be boolean, got dtype float32": {"reset": RESET.astype(np.float32)},
    "mask must have shape (B T) with T = 21, got (2, 20)": {"mask": MASK[:, 1:]},
    "chunk must be a positive int, got 0": {"chunk": 0},
    "v must have at least one time step, got shape (2, 0, 2, 3)": {
        name: x[:, :0] for name, x in {"q": Q, "k": KEY, "v": VALUE, "beta": BETA}.items()
    },
    "method must be one of auto, chunked, associative, sequential, got 'fast'": {"method": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        untyped(**{"q": Q, "k": KEY, "v": VALUE, "beta": BETA, **WRONG[message]})
