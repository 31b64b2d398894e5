"""The token before this one."""

import jax.numpy as jnp
import numpy as np

from jaxseq.ops import token_shift

X = np.arange(1.0, 13).reshape(1, 6, 2).astype(np.float32)
NOTHING = np.zeros((1, 1, 2))


def test_it_is_the_token_before_or_that_of_the_state_and_nothing_across_a_document():
    before = np.full((1, 1, 2), 9.0, np.float32)
    reset = np.array([[False, False, False, True, False, False]])
    y, state = token_shift(X, before, reset=reset)
    np.testing.assert_array_equal(y, np.concatenate([before, X[:, :2], NOTHING, X[:, 3:5]], axis=1))
    np.testing.assert_array_equal(state, X[:, -1:])


def test_padding_is_skipped():
    mask = np.array([[True, False, True, True, False, True]])
    y, state = token_shift(jnp.asarray(X), mask=mask)
    np.testing.assert_array_equal(y[:, mask[0]], np.concatenate([NOTHING, X[:, mask[0]][:, :-1]], axis=1))
    np.testing.assert_array_equal(state, X[:, -1:])
