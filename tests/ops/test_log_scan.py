"""log_linear_scan against float64 sums of exponentials, and what is beyond those."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import log_linear_scan, reference

METHODS = ("sequential", "associative")
B, T, C = 2, 12, 3


def gradients(run, log_a, log_b, log_h0, g):
    log_h, pull = jax.vjp(run, log_a, log_b, log_h0)
    return log_h, pull(g)


@cache
def problem():
    rng = np.random.default_rng(0)
    shapes = (B, T, 1), (B, T, C), (B, C), (B, T, C)
    inputs = tuple(np.asarray(2 * rng.normal(size=shape), np.float32) for shape in shapes)
    flags = {"reset": rng.random((B, T)) < 0.2, "mask": np.arange(T) % 4 != 2}
    return inputs, {**flags, "mask": np.broadcast_to(flags["mask"], (B, T)) | flags["reset"]}


@cache
def expected():
    inputs, options = problem()
    with jax.enable_x64(True):
        run = partial(gradients, partial(reference.log_linear_scan, **options))
        return jax.tree.map(np.asarray, jax.jit(run)(*(jnp.asarray(x, jnp.float64) for x in inputs)))


@cache
def compiled(method):
    return jax.jit(lambda inputs, flags: gradients(partial(log_linear_scan, **flags, method=method), *inputs))


@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients_are_the_reference_s(method, close):
    close(compiled(method)(*problem()), expected())


@pytest.mark.parametrize("method", METHODS)
def test_two_halves_with_the_state_carried_are_the_whole(method, close):
    (log_a, log_b, log_h0, _), flags = problem()
    run = jax.jit(partial(log_linear_scan, method=method))

    def part(log_h0, steps):
        return run(log_a[:, steps], log_b[:, steps], log_h0, **{name: x[:, steps] for name, x in flags.items()})

    first = part(log_h0, slice(0, 6))
    close(jnp.concatenate([first, part(first[:, -1], slice(6, None))], axis=1), part(log_h0, slice(None)))


def test_where_everything_is_zero_derivatives_are_finite():
    empty = np.full((B, T, C), -np.inf, np.float32)
    steps = np.broadcast_to(np.arange(T), (B, T))
    inputs = empty[..., :1], empty, empty[:, 0], np.ones_like(empty)
    log_h, gradient = compiled("associative")(inputs, {"reset": steps == 4, "mask": steps != 7})
    assert bool(jnp.all(log_h == jnp.float32(-1e30)))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_stays_in_its_row_and_its_document(method):
    (log_a, log_b, log_h0, _), _ = problem()
    reset = jnp.zeros((B, T), bool).at[1, 7].set(True)
    run = jax.jit(lambda log_b: log_linear_scan(log_a, log_b, log_h0, reset=reset, method=method))
    clean, poisoned = run(log_b), run(jnp.asarray(log_b).at[1, 3].set(jnp.nan))
    assert bool(jnp.all(jnp.isnan(poisoned[1, 3:7])))
    assert bool(jnp.all(poisoned.at[1, 3:7].set(clean[1, 3:7]) == clean))


def test_long_sequences_stay_exact_where_a_difference_of_cumulative_sums_does_not():
    rng = np.random.default_rng(0)
    gate = rng.normal(size=(1, 32768, 4))  # minGRU's: a = 1 - z, b = z |value|
    log_a, log_b = -np.logaddexp(0, gate), -np.logaddexp(0, -gate) + np.log(np.abs(rng.normal(size=gate.shape)))
    log_a, log_b = (np.asarray(x, np.float32) for x in (log_a, log_b))
    with jax.enable_x64(True):
        wanted = np.exp(reference.log_linear_scan(*(jnp.asarray(x, jnp.float64) for x in (log_a, log_b))))
    total = jnp.cumsum(log_a, axis=1)
    heinsen = total + jax.lax.cumlogsumexp(log_b - total, axis=1)
    ours = jax.jit(partial(log_linear_scan, method="sequential"))(log_a, log_b)
    deviation = [np.max(np.abs(np.exp(x) - wanted)) / np.max(wanted) for x in (ours, heinsen)]
    assert deviation[0] <= 1e-5
    assert deviation[1] >= 1e-3


ONES = np.ones((B, T, C), np.float32)
WRONG = {
    "log_a must be float32 or wider (a decay of 0.999 rounds to 1 in float16), got float16": {
        "log_a": ONES.astype(np.float16)
    },
    "log_a must broadcast to log_b of shape (2, 12, 3) axis by axis, got shape (2, 11, 3)": {"log_a": ONES[:, 1:]},
    "log_b must be real floating point, got dtype complex64": {"log_b": ONES + 0j},
    "log_b must have at least one time step, got shape (2, 0, 3)": {"log_b": ONES[:, :0]},
    "log_h0 must have shape (2, 3) (log_b without time), got (2, 2)": {"log_h0": ONES[:, 0, 1:]},
    "mask must be boolean, got dtype float32": {"mask": ONES[..., 0]},
    "method must be one of auto, sequential, associative, got 'cumulative'": {"method": "cumulative"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        log_linear_scan(**{"log_a": ONES, "log_b": ONES, **WRONG[message]})


def test_each_argument_has_its_derivative_alone(close):
    inputs = problem()[0][:3]

    def loss(*inputs):
        return jnp.sum(jnp.sin(log_linear_scan(*inputs)))

    alone = jax.jit(lambda *x: tuple(jax.grad(loss, i)(*x) for i in range(3)))(*inputs)
    together = jax.jit(jax.grad(loss, (0, 1, 2)))
    close(alone, together(*inputs))
    without = jax.jit(jax.grad(lambda log_b: jnp.sum(jnp.sin(log_linear_scan(inputs[0], log_b)))))(inputs[1])
    close(without, together(*inputs[:2], np.full_like(inputs[2], -1e30))[1])
