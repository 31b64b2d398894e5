"""causal_conv against its definition in float64."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import causal_conv, reference

B, T, C = 3, 9, 2
conv = jax.jit(causal_conv)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.bfloat16).astype(np.float32)


def flags(seed, share, time=T):
    return np.random.default_rng(seed).random((B, time)) < share


def problem(width, time=T):
    """(x, w, b, state) and a cotangent of y, all exact in bfloat16; one of the rows is padding for the most part."""
    inputs = random(0, B, time, C), random(1, width, C), random(2, C), random(3, B, width - 1, C)
    mask = flags(5, 0.6, time)
    mask[0, : time - 1] = False
    return inputs, {"reset": flags(4, 0.25, time), "mask": mask}, random(6, B, time, C) * mask[..., None]


def gradients(f, flag, inputs, g):
    """y at the valid tokens, the state, and the cotangents of x, w, b and state for a loss on both."""
    (y, state), pull = jax.vjp(partial(f, **flag), *inputs)
    return jnp.where(flag["mask"][..., None], y, 0), state, pull((g, jnp.ones_like(state)))


@cache
def expected(width, time=T):
    inputs, flag, g = problem(width, time)
    with jax.enable_x64(True):
        inputs, g = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (inputs, g))
        return jax.tree.map(np.asarray, jax.jit(partial(gradients, reference.causal_conv))(flag, inputs, g))


@pytest.mark.parametrize(
    ("width", "time"), [(1, T), (4, T), (4, 2), (4, 1), *(pytest.param(n, T, marks=pytest.mark.slow) for n in (2, 3))]
)
def test_state_reset_and_mask_give_the_reference_s_values_and_gradients(width, time, close):
    inputs, flag, g = problem(width, time)
    close(jax.jit(partial(gradients, causal_conv))(flag, inputs, g), expected(width, time))


def test_without_flags_it_is_the_convolution_of_numpy(close):
    (x, w, b, _), _, _ = problem(4)
    wanted = [[np.convolve(x[i, :, c].astype(np.float64), w[::-1, c])[:T] + b[c] for c in range(C)] for i in range(B)]
    close(conv(x, w, b)[0], np.moveaxis(np.array(wanted), 1, 2))


@pytest.mark.parametrize("cut", [2, 5])
def test_a_split_anywhere_with_the_state_carried_changes_nothing(cut, close):
    (x, w, b, state), flag, _ = problem(4)
    whole = conv(x, w, b, state, **flag)
    first, carried = conv(x[:, :cut], w, b, state, **{k: v[:, :cut] for k, v in flag.items()})
    second, carried = conv(x[:, cut:], w, b, carried, **{k: v[:, cut:] for k, v in flag.items()})
    valid = flag["mask"][..., None]
    close((jnp.concatenate([first, second], 1) * valid, carried), (whole[0] * valid, whole[1]))


def test_padding_is_as_if_it_were_not_there(close):
    (x, w, b, state), _, _ = problem(4)
    kept = [0, 2, 3, 7]
    mask = jnp.zeros((B, T), bool).at[:, jnp.array(kept)].set(True)
    y, after = conv(x, w, b, state, mask=mask)
    close((y[:, kept], after), conv(x[:, kept], w, b, state))
    assert bool(jnp.all(jnp.isfinite(y)))


def test_a_document_that_starts_in_a_packed_row_is_a_separate_run(close):
    (x, w, b, state), _, _ = problem(4)
    y, after = conv(x, w, b, state, reset=jnp.zeros((B, T), bool).at[:, 4].set(True))
    close((y[:, 4:], after), conv(x[:, 4:], w, b))
    close(y[:, :4], conv(x[:, :4], w, b, state)[0])


def test_a_nan_stays_in_its_row(close):
    (x, w, b, state), flag, _ = problem(4)
    y, after = conv(x, w, b, state, **flag)
    poisoned, poisoned_after = conv(jnp.asarray(x).at[1].set(jnp.nan), w, b, state, **flag)
    assert bool(jnp.all(poisoned[0::2] == y[0::2]))
    assert bool(jnp.all(poisoned_after[0::2] == after[0::2]))
    assert bool(jnp.any(jnp.isnan(poisoned[1])))


ONES = np.ones((B, T, C), np.float32)
WRONG = {
    "x must have shape (B T C), got (9, 2)": {"x": ONES[0]},
    "w must have shape (W C) with C = 2, got (4, 3)": {"w": np.ones((4, 3), np.float32)},
    "b must have shape (C) with C = 2, got (3,)": {"b": np.ones(3, np.float32)},
    "state must have shape (B 3 C) with 3 = 3, got (3, 4, 2)": {"state": ONES[:, :4]},
    "mask must have shape (B T) with T = 9, got (3, 8)": {"mask": ONES[:, 1:, 0] > 0},
    "mask must be boolean, got dtype float32": {"mask": ONES[..., 0]},
    "reset must be boolean, got dtype float32": {"reset": ONES[..., 0]},
    "x must be floating point or complex, got dtype int32": {"x": ONES.astype(np.int32)},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        causal_conv(**{"x": ONES, "w": ONES[0, :4], **WRONG[message]})
