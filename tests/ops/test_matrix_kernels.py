"""The chunk kernels of matrix states, interpreted, against lax.scan in float64; and what is as they keep it on CPU."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import choice, fused_attention, reference
from jaxseq.ops.linear_attention import linear_attention
from jaxseq.ops.measured import Row
from jaxseq.sharding import make_mesh

B, T, G, H, K, V, CHUNK = 2, 21, 2, 4, 4, 3, 8  # the last of three chunks has five steps
KERNEL = "interpret:tpu"
METHODS = (KERNEL, "auto")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


RESET, MASK = np.zeros((B, T), bool), np.ones((B, T), bool)
RESET[0, [4, 8, 9]], RESET[1, [2, 18]] = True, True  # within a chunk, at its start, and at padding
MASK[0, 0], MASK[1, [2, *range(13, 18), 20]] = False, False
FLAGS = {"reset": RESET, "mask": MASK}
X = {"q": random(1, B, T, G, K), "k": random(2, B, T, G, K), "v": random(3, B, T, H, V), "state": random(4, B, H, K, V)}
LOG_A = {
    "none": None,
    "each step": -np.abs(random(5, B, T, H)),
    "constant": -np.abs(random(6, 1, 1, H)),
    "of any size": -np.random.default_rng(7).choice([0, 1e-6, 5, 50, 1e4], (B, T, H)).astype(np.float32),
}


def arguments(decay):
    return {key: x for key, x in (X | {"log_a": LOG_A[decay]}).items() if x is not None}


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
    run = partial(linear_attention, method=method, chunk=CHUNK)
    return jax.jit(partial(gradients, run, flags=FLAGS if flagged else {}))


@cache
def expected(decay, flagged=True):
    with jax.enable_x64(True):
        x = jax.tree.map(lambda x: jnp.asarray(x, np.float64), arguments(decay))
        run = jax.jit(partial(gradients, reference.linear_attention, flags=FLAGS if flagged else {}))
        return jax.tree.map(np.asarray, run(x))


@pytest.mark.parametrize("decay", LOG_A)
@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients_are_the_reference_s(method, decay, close):
    close(compiled(method)(arguments(decay)), expected(decay))


@pytest.mark.parametrize("method", METHODS)
def test_without_flags_the_end_of_the_last_chunk_is_no_step(method, close):
    close(compiled(method, flagged=False)(arguments("each step")), expected("each step", flagged=False))


@pytest.mark.parametrize("scan", ["chunked", "sequential"])
def test_every_method_has_the_derivative_that_takes_what_the_kernel_keeps(scan, close, monkeypatch):
    row = Row("linear_attention", "", "cpu", (B, T, H, V, K), "float32", {scan: 1.0}, "", "", "")
    monkeypatch.setattr(choice, "ROWS", (row,))
    monkeypatch.setattr(choice, "UNTIMED", choice.UNTIMED | {"linear_attention": scan})
    run = partial(linear_attention, method="auto", chunk=CHUNK)
    close(jax.jit(partial(gradients, run, flags=FLAGS))(arguments("each step")), expected("each step"))


def test_a_decay_to_zero_may_be_minus_infinity(close):
    x = arguments("each step")
    x["log_a"] = np.where(np.arange(T)[:, None] % 6 == 1, -np.inf, x["log_a"]).astype(np.float32)
    least = x | {"log_a": np.maximum(x["log_a"], np.float32(-1e4))}
    close(compiled(KERNEL)(x), compiled(KERNEL)(least))


SPOILED = {"reset": np.arange(T) == np.full((B, 1), 14), "mask": np.ones((B, T), bool)}
forward = jax.jit(partial(linear_attention, method=KERNEL, chunk=CHUNK))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("spoiled", ["q", "k", "v", "log_a"])
def test_what_is_not_finite_stays_in_its_document_and_after_its_step(spoiled, value):
    x = arguments("each step")
    y, state = forward(**x, **SPOILED)
    x[spoiled] = x[spoiled].copy()
    x[spoiled][1, 10] = value
    poisoned, last = forward(**x, **SPOILED)
    reached = np.zeros((B, T), bool)
    reached[1, 10 : 11 if spoiled == "q" else 14] = True
    assert not np.any(np.isfinite(poisoned[reached]))
    assert np.all((poisoned == y) | reached[..., None, None])
    assert np.all(last == state)


def test_a_nan_in_the_state_ends_with_the_document():
    y, state = forward(**arguments("each step") | {"state": np.full_like(X["state"], np.nan)}, **SPOILED)
    assert np.all(np.isnan(y[:, :14]))
    assert np.all(np.isfinite(y[:, 14:]))
    assert np.all(np.isfinite(state))


def test_what_padding_holds_never_matters():
    x = arguments("each step")
    y, state = forward(**x, **FLAGS)
    for key in ("q", "k", "v", "log_a"):
        x[key] = np.where(MASK.reshape(B, T, *(1,) * (x[key].ndim - 2)), x[key], np.nan)
    spoiled, last = forward(**x, **FLAGS)
    assert np.all(last == state)
    assert np.all(np.isfinite(spoiled))
    assert np.all((spoiled == y) | ~MASK[..., None, None])


def test_one_step_from_a_state_is_decoding(close):
    x = {key: value if key == "state" else value[:, :1] for key, value in arguments("each step").items()}
    wanted = reference.linear_attention(**x)
    close(forward(**x), jax.tree.map(np.asarray, wanted))


def test_bfloat16_is_summed_in_float32(close):
    x = {key: jnp.asarray(value, jnp.bfloat16) if key in "qkv" else value for key, value in arguments("none").items()}
    y, state = forward(**x)
    wanted = reference.linear_attention(**{key: jnp.asarray(value, jnp.float32) for key, value in x.items()})
    assert (y.dtype, state.dtype) == (jnp.bfloat16, jnp.float32)
    close((y, state), wanted, "bfloat16")
    close(state, wanted[1])


@pytest.mark.parametrize("groups", [1, 2])
def test_a_mesh_of_rows_and_heads_changes_nothing(groups, close):
    mesh = make_mesh((2, 1, 2, 1), jax.devices()[:4])
    x = arguments("each step")
    x |= {key: x[key][:, :, :groups] for key in "qk"}
    alone = compiled(KERNEL)(x)
    with jax.set_mesh(mesh):
        split = jax.jit(partial(gradients, partial(linear_attention, method=KERNEL, chunk=CHUNK), flags=FLAGS))(x)
    close(split, jax.tree.map(np.asarray, alone))


ONES = {"q": np.ones((B, T, G, K), np.float32), "k": np.ones((B, T, G, K), np.float32), "v": X["v"]}
NEEDS = "of linear_attention needs float32, at most one decay per head and no bonus, got"
WRONG = {
    f"method 'kernel' {NEEDS} float32, log_a (2, 21, 4, 4), bonus False": {"log_a": -np.ones((B, T, H, K), np.float32)},
    f"method 'kernel:tpu' {NEEDS} float32, log_a none, bonus True": {
        "bonus": np.ones((H, K), np.float32),
        "method": "kernel:tpu",
    },
    "method 'kernel' of linear_attention needs one of tpu, got cpu: 'interpret:tpu' runs the kernel's program": {},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_the_kernel_does_not_take_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_attention(**{**ONES, "method": "kernel", **WRONG[message]})


def test_float64_is_not_for_the_kernel():
    with jax.enable_x64(True), pytest.raises(ValueError, match=re.escape(f"{NEEDS} float64")):
        linear_attention(**{key: np.asarray(x, np.float64) for key, x in ONES.items()}, method=KERNEL)


@pytest.mark.parametrize(
    "given", [{"bonus": np.ones((H, K), np.float32)}, {"log_a": -np.ones((B, T, H, K), np.float32)}]
)
def test_auto_never_asks_the_kernel_for_what_it_does_not_take(given, monkeypatch):
    monkeypatch.setattr(fused_attention, "attend", None)
    assert linear_attention(**ONES, **given)[0].shape == (B, T, H, V)


def test_the_scale_may_be_an_array():
    x = arguments("each step")
    y, _ = jax.jit(lambda x, scale: linear_attention(**x, scale=scale, chunk=CHUNK))(x, 0.5)
    assert np.all(y == linear_attention(**x, scale=0.5, chunk=CHUNK)[0])
