"""The accuracy of rotary positions, and the places of tokens in packed and padded rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.positions import place, rotate


@pytest.mark.parametrize(("position", "bound"), [(100, 1e-6), (10_000, 8e-6), (100_000, 8e-5)])
def test_the_angle_of_a_position_is_accurate(position, bound):
    """A float32 product of position and frequency is off by up to 8e-3 radians at 100,000."""
    width = 64
    t = np.arange(position - 99, position + 1)
    x = np.concatenate([np.ones(width // 2), np.zeros(width // 2)]).astype(np.float32)
    y = rotate(jnp.tile(x, (1, 100, 1, 1)), jnp.asarray(t, jnp.int32)[None], 10000.0)[0, :, 0]
    angle = t[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    assert np.abs(y - np.concatenate([np.cos(angle), np.sin(angle)], axis=1)).max() < bound


def test_a_fraction_of_zero_is_no_positions():
    x = jnp.ones((1, 3, 2, 4))
    np.testing.assert_array_equal(rotate(x, jnp.arange(3)[None], 100.0, 0), x)


def test_places_count_the_valid_tokens_of_a_document():
    reset = jnp.array([[False, False, True, False, False, True]])
    mask = jnp.array([[True, False, False, True, True, False]])
    document, position = place(jnp.array([5]), reset, mask, 6)
    np.testing.assert_array_equal(document, [[0, 0, 1, 1, 1, 2]])
    np.testing.assert_array_equal(position, [[5, 5, -1, 0, 1, -1]])
