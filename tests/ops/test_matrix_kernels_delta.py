"""The chunk kernel of the delta rule, interpreted, against lax.scan in float64; and what is as it keeps it on CPU."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import choice, fused_delta, reference
from jaxseq.ops.delta_rule import delta_rule
from jaxseq.ops.measured import Row
from jaxseq.sharding import make_mesh

B, T, G, H, K, V, CHUNK = 2, 37, 2, 4, 4, 3, 16  # two tiles in a chunk; the last of three chunks has five steps
KERNEL = "interpret:tpu"
METHODS = (KERNEL, "auto")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


RESET, MASK = np.zeros((B, T), bool), np.ones((B, T), bool)
RESET[0, [4, 16, 19]], RESET[1, [2, 33]] = True, True  # within a chunk, at its start, and at padding
MASK[0, 0], MASK[1, [2, *range(26, 34), 36]] = False, False
FLAGS = {"reset": RESET, "mask": MASK}
X = {
    "q": random(1, B, T, G, K),
    "k": unit(random(2, B, T, G, K)),
    "v": random(3, B, T, H, V),
    "beta": 2 / (1 + np.exp(-random(4, B, T, H))),
    "state": random(5, B, H, K, V),
}
DECAYED = X | {"log_a": -np.abs(random(6, B, T, H))}
REPEATED = {"k": np.broadcast_to(X["k"][:, :1], X["k"].shape), "beta": np.full_like(X["beta"], 1.9)}
CASES = {
    "none": X,
    "scalar": DECAYED,
    "repeated keys": X | REPEATED,
    "all forgotten": DECAYED | {"log_a": np.full((B, T, H), -50, np.float32)},
}


def gradients(run, x, flags):
    """The results and their cotangents; what padding returns is unspecified and does not count."""
    seen = flags.get("mask", np.ones((B, T), bool))[..., None, None]

    def counted(x):
        y, state = run(**x, **flags, scale=0.5)
        return jnp.where(seen, y, 0), state

    (y, state), pull = jax.vjp(counted, x)
    return (y, state), pull((random(8, *y.shape).astype(y.dtype), random(9, *state.shape).astype(state.dtype)))[0]


@cache
def compiled(method, flagged=True):
    run = partial(delta_rule, method=method, chunk=CHUNK)
    return jax.jit(partial(gradients, run, flags=FLAGS if flagged else {}))


@cache
def expected(name, flagged=True):
    with jax.enable_x64(True):
        x = jax.tree.map(lambda x: jnp.asarray(x, np.float64), CASES[name])
        run = jax.jit(partial(gradients, reference.delta_rule, flags=FLAGS if flagged else {}))
        return jax.tree.map(np.asarray, run(x))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients_are_the_reference_s(method, name, close):
    close(compiled(method)(CASES[name]), expected(name))


def test_without_flags_the_end_of_the_last_chunk_is_no_step(close):
    close(compiled(KERNEL, flagged=False)(DECAYED), expected("scalar", flagged=False))


@pytest.mark.parametrize("scan", ["associative", "sequential"])
def test_every_method_has_the_derivative_that_takes_what_the_kernel_keeps(scan, close, monkeypatch):
    row = Row("delta_rule", "", "cpu", (B, T, H, V, K), "float32", {scan: 1.0}, "", "", "")
    monkeypatch.setattr(choice, "ROWS", (row,))
    monkeypatch.setattr(choice, "UNTIMED", choice.UNTIMED | {"delta_rule": scan})
    run = partial(delta_rule, method="auto", chunk=CHUNK)
    close(jax.jit(partial(gradients, run, flags=FLAGS))(DECAYED), expected("scalar"))


SPOILED = {"reset": np.arange(T) == np.full((B, 1), 22), "mask": np.ones((B, T), bool)}
forward = jax.jit(partial(delta_rule, method=KERNEL, chunk=CHUNK))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("spoiled", ["q", "k", "v", "beta", "log_a"])
def test_what_is_not_finite_stays_in_its_document_and_after_its_step(spoiled, value):
    y, state = forward(**DECAYED, **SPOILED)
    x = DECAYED | {spoiled: DECAYED[spoiled].copy()}
    x[spoiled][1, 18] = value
    poisoned, last = forward(**x, **SPOILED)
    reached = np.zeros((B, T), bool)
    reached[1, 18:22] = True
    assert np.all(np.isnan(poisoned[reached]))
    assert np.all((poisoned == y) | reached[..., None, None])
    assert np.all(last == state)


def test_a_nan_in_the_state_ends_with_the_document():
    y, state = forward(**DECAYED | {"state": np.full_like(X["state"], np.nan)}, **SPOILED)
    assert np.all(np.isnan(y[:, :22]))
    assert np.all(np.isfinite(y[:, 22:]))
    assert np.all(np.isfinite(state))


def test_what_padding_holds_never_matters():
    y, state = forward(**DECAYED, **FLAGS)
    masks = {key: MASK.reshape(B, T, *(1,) * (DECAYED[key].ndim - 2)) for key in ("q", "k", "v", "beta", "log_a")}
    spoiled, last = forward(
        **DECAYED | {key: np.where(mask, DECAYED[key], np.nan) for key, mask in masks.items()}, **FLAGS
    )
    assert np.all(last == state)
    assert np.all((spoiled == y) | ~MASK[..., None, None])


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2])
def test_a_mesh_of_rows_and_heads_changes_nothing(groups, close):
    mesh = make_mesh((2, 1, 2, 1), jax.devices()[:4])
    x = DECAYED | {key: DECAYED[key][:, :, :groups] for key in "qk"}
    alone = compiled(KERNEL)(x)
    with jax.set_mesh(mesh):
        split = jax.jit(partial(gradients, partial(delta_rule, method=KERNEL, chunk=CHUNK), flags=FLAGS))(x)
    close(split, jax.tree.map(np.asarray, alone))


TOKENS = {key: X[key] for key in ("q", "k", "v", "beta")}
VECTOR = -np.ones((B, T, H, K), np.float32)
WRONG = {
    "method 'kernel' of delta_rule needs float32 and at most one decay per head, got float32, log_a (2, 37, 2, 4)": {
        "v": X["v"][:, :, :2],
        "beta": X["beta"][:, :, :2],
        "log_a": VECTOR[:, :, :2],
    },
    "method 'kernel' of delta_rule needs one of tpu, got cpu: 'interpret:tpu' runs the kernel's program": {},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_the_kernel_does_not_take_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        delta_rule(**{**TOKENS, "method": "kernel", **WRONG[message]})


def test_auto_never_asks_the_kernel_for_what_it_does_not_take(monkeypatch):
    monkeypatch.setattr(fused_delta, "fused", None)
    assert delta_rule(**TOKENS, log_a=VECTOR)[0].shape == (B, T, H, V)
