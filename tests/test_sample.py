"""Drawing a token: from the right set, with the right probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.generate import Sampling, sample

P = np.array([0.15, 0.5, 0.05, 0.3])
ROWS = 20_000


def draws(p, sampling, allowed=None):
    """ROWS ids drawn from one distribution."""
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p, jnp.float32)), (ROWS, len(p)))
    keys = jax.random.split(jax.random.key(0), ROWS)
    return np.asarray(sample(logits, keys, sampling, len(p) if allowed is None else allowed))


def frequencies(ids):
    return np.bincount(ids, minlength=len(P)) / ROWS


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), P),
        (Sampling(temperature=2), P**0.5),
        (Sampling(temperature=0.5), P**2),
        (Sampling(top_k=2), P * [0, 1, 0, 1]),
        (Sampling(top_k=9), P),
        (Sampling(top_p=0.75), P * [0, 1, 0, 1]),
        (Sampling(top_p=0.85), P * [1, 1, 0, 1]),
        (Sampling(top_p=1), P),
        (Sampling(top_k=2, top_p=0.6), P * [0, 1, 0, 0]),  # top_p counts what top_k left: 0.5 / 0.8
        (Sampling(temperature=4, top_p=0.6), P**0.25 * [1, 1, 0, 1]),  # and what the temperature made
    ],
)
def test_tokens_are_drawn_with_the_probabilities_that_the_limits_leave(sampling, expected):
    found, expected = frequencies(draws(P, sampling)), expected / np.sum(expected)
    np.testing.assert_array_equal(found[expected == 0], 0)
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / ROWS))


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=9), Sampling(top_k=3, top_p=0.9)])
def test_ids_beyond_the_allowed_are_never_drawn(sampling):
    assert set(draws(P[[2, 0, 1, 3]], sampling, allowed=2)) <= {0, 1}


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=1e-6)])
def test_the_lowest_of_the_most_probable_ids_is_the_greedy_one(sampling):
    assert set(draws([0.2, 0.4, 0.4, 0.0], sampling)) == {1}


@pytest.mark.parametrize("limits", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_a_row_that_is_not_finite_is_marked_and_leaves_the_others_alone(limits, key):
    logits = jnp.log(jnp.asarray(P, jnp.float32))
    rows = jnp.stack([logits, logits.at[3].set(jnp.nan), logits.at[0].set(jnp.inf), jnp.full(4, -jnp.inf), logits])
    keys = jax.random.split(key, 5)
    ids = sample(rows, keys, Sampling(**limits), 4)
    np.testing.assert_array_equal(ids[1:4], -1)
    np.testing.assert_array_equal(ids[::4], sample(rows[::4], keys[::4], Sampling(**limits), 4))
    np.testing.assert_array_equal(sample(rows, keys, Sampling(**limits), 3)[1] >= 0, True)  # the NaN is not allowed


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", -1.0, "temperature must be finite and at least 0, got -1.0"),
        ("temperature", float("nan"), "temperature must be finite and at least 0, got nan"),
        ("top_k", 0, "top_k must be at least 1, or None, got 0"),
        ("top_p", 0.0, r"top_p must be in \(0, 1\], or None, got 0.0"),
        ("top_p", 1.5, r"top_p must be in \(0, 1\], or None, got 1.5"),
    ],
)
def test_a_wrong_field_is_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**{field: value})
