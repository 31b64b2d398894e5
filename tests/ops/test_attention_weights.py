"""Softplus weights against their two stages in numpy, and where those are not defined or do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.attention_weights import EVEN, softplus_weights

T, S, WIDTH = 12, 20, 8
POWERS = [0.0, 1.0, 3.0, 15.0]


def problem():
    """Scores (2, T, S) in [-1, 1], and what is seen (T, S): query t sees t + 1 keys, here and there."""
    rng = np.random.default_rng(0)
    seen = np.zeros((T, S), bool)
    for t in range(T):
        seen[t, rng.permutation(S)[: t + 1]] = True
    return rng.uniform(-1, 1, size=(2, T, S)), seen


def definition(scores, seen, power):
    """One row after another, in float64; rows of equal weights are not defined."""
    weights = np.zeros_like(scores)
    for row in np.ndindex(scores.shape[:-1]):
        keys = np.flatnonzero(seen[row[-1]])
        n = len(keys)
        a = np.logaddexp(0, np.log(WIDTH) * np.log(n) * scores[row][keys])
        a = a / a.sum()
        if power:
            a = np.maximum(a * n - (0 if n <= 3 else 1), 0) ** power
            a = a / a.sum()
        weights[row][keys] = a
    return weights


@pytest.mark.parametrize("power", POWERS)
def test_values_are_the_definition_s(power):
    scores, seen = problem()
    found = softplus_weights(jnp.asarray(scores, jnp.float32), seen, WIDTH, power)
    expected = definition(np.asarray(scores, np.float32).astype(np.float64), seen, power)
    assert np.max(expected[:, 3:]) > 0.3
    tiny = EVEN if power == 1 else 0  # only there has ε moved them
    assert np.max(np.abs(found - expected)) <= 5e-6 + tiny


def plainly(scores, seen, power):
    """The same as jnp says it, in float64: nothing is divided by a row's largest."""
    count = jnp.sum(seen, axis=-1, keepdims=True)
    a = jnp.where(seen, jnp.log1p(jnp.exp(jnp.log(WIDTH) * jnp.log(count) * scores)), 0)
    a = a / jnp.sum(a, axis=-1, keepdims=True)
    if power:
        a = jnp.maximum(a * count - (count > 3), 0) ** power
        a = a / (jnp.sum(a, axis=-1, keepdims=True) + EVEN**power)
    return a


@pytest.mark.parametrize("power", [0.0, 3.0, 15.0])
def test_derivatives_of_both_orders_are_those_of_the_plain_equations(power, close):
    with jax.enable_x64(True):
        scores, seen = problem()
        aim = np.random.default_rng(1).normal(size=scores.shape)

        def slopes(weights):
            first = jax.grad(lambda s: jnp.sum(aim * weights(s)))
            return jax.jit(lambda s: (weights(s), first(s), jax.jvp(first, (s,), (aim,))[1]))(jnp.asarray(scores))

        found = slopes(lambda s: softplus_weights(s, seen, WIDTH, power))
        close(found, slopes(lambda s: plainly(s, seen, power)), "float64")


def swept(scores, power):
    """Weights of one row that sees all its keys, and their gradients; finite."""
    scores = jnp.asarray(scores, jnp.float32)
    aim = jnp.asarray(np.random.default_rng(1).normal(size=scores.shape), jnp.float32)
    weigh = jax.jit(lambda s: softplus_weights(s[None], jnp.ones((1, s.size), bool), 64, power)[0])
    weight, slope = weigh(scores), jax.grad(lambda s: jnp.sum(aim * weigh(s)))(scores)
    assert bool(jnp.all(jnp.isfinite(weight)) & jnp.all(jnp.isfinite(slope)))
    return np.asarray(weight)


@pytest.mark.parametrize("winners", [1, 2])
def test_a_long_row_that_is_all_one_key_s_does_not_overflow(winners):
    assert np.isinf(jnp.float32(8191 / winners) ** 15)
    scores = np.full(8192, -1.0)
    scores[-winners:] = 1
    weight = swept(scores, 15.0)
    np.testing.assert_allclose(weight[-winners:], 1 / winners, rtol=1e-6)
    assert not weight[:-winners].any()


@pytest.mark.parametrize("length", [4, 100, 8192])
@pytest.mark.parametrize("power", [3.0, 15.0])
def test_an_even_row_is_zero_whatever_rounding_makes_of_it(length, power):
    noise = np.random.default_rng(0).choice([-1e-7, 0, 1e-7], size=length)
    assert swept(np.full(length, 0.7), power).sum() < 1e-3
    assert swept(0.7 + noise, power).sum() < 1e-3


def test_rows_of_up_to_three_keys_have_no_offset():
    for length in (1, 2, 3):
        np.testing.assert_allclose(swept(np.full(length, 0.3), 15.0), 1 / length, rtol=1e-6)
    assert not swept(np.full(4, 0.3), 15.0).any()


@pytest.mark.parametrize("power", [1.0, 3.0, 15.0])
def test_a_row_sums_to_one_or_from_zero_up_to_it_where_it_is_nearly_even(power):
    spread = np.float32(10.0) ** np.arange(-7, 1)[:, None]
    scores = spread * np.random.default_rng(0).uniform(-1, 1, size=(8, 50)).astype(np.float32)
    sums = np.asarray(softplus_weights(jnp.asarray(scores), np.ones((8, 50), bool), 64, power)).sum(axis=1)
    assert np.all(np.diff(sums) > -1e-6)
    assert np.all(sums < 1 + 1e-6)
    assert sums[0] < 0.02
    assert sums[-1] > 1 - 1e-3


@pytest.mark.parametrize("power", POWERS)
def test_what_is_not_seen_has_no_weight_and_no_gradient_be_it_nan(power):
    scores, seen = problem()
    seen[5] = False  # a query that sees nothing
    poisoned = jnp.asarray(np.where(seen, scores, np.nan), jnp.float32)
    aim = jnp.asarray(np.random.default_rng(1).normal(size=scores.shape), jnp.float32)

    def loss(scores):
        weight = softplus_weights(scores, seen, WIDTH, power)
        return jnp.sum(aim * weight), weight

    slope, weight = jax.jit(jax.grad(loss, has_aux=True))(poisoned)
    assert not weight[:, ~seen].any()
    assert not slope[:, ~seen].any()
    assert bool(jnp.all(jnp.isfinite(slope)))
