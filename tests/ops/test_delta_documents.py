"""What delta_rule keeps apart: documents, padding, stretches of time, and what is not finite."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.matrix_state import affine_map
from tests.ops.delta_cases import FLAGS, MASK, B, C, H, K, T, arguments, forward, untyped

SPLIT = 5


@cache
def halves(second_state):
    """The outputs of both sides of a split, the second with the first one's state if asked to."""
    named = arguments("delta_rule", "scalar")
    state = named.pop("state")
    sides = [{name: x[:, part] for name, x in named.items()} for part in (slice(SPLIT), slice(SPLIT, None))]
    first, state = forward(**sides[0], state=state, chunk=C)
    return first, *forward(**sides[1], state=state if second_state else jnp.zeros_like(state), chunk=C)


def test_two_halves_with_the_state_carried_are_the_whole(close):
    first, second, state = halves(True)
    whole = forward(**arguments("delta_rule", "scalar"), reset=np.zeros((B, T), bool), mask=np.ones_like(MASK), chunk=C)
    close((jnp.concatenate([first, second], axis=1), state), whole)


def test_packed_documents_are_separate_runs(close):
    first, second, state = halves(False)
    reset = np.zeros((B, T), bool)
    reset[:, SPLIT] = True
    packed = forward(**arguments("delta_rule", "scalar"), reset=reset, mask=np.ones_like(MASK), chunk=C)
    close((jnp.concatenate([first, second], axis=1), state), packed)


@pytest.mark.parametrize("method", ["chunked", "associative", "sequential"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["q", "k", "v", "beta", "log_a", "state"])
def test_what_is_not_finite_stays_in_its_document(name, bad, method):
    named = arguments("delta_rule", "scalar")
    if (name, bad) == ("log_a", np.inf):
        bad = np.nan
    poisoned = {**named, name: named[name].copy()}
    start, end = (0, 3) if name == "state" else (9, 17)
    poisoned[name][(1,) if name == "state" else (1, 9)] = bad
    clean, dirty = (forward(**x, **FLAGS, chunk=C, method=method) for x in (named, poisoned))
    inside = np.zeros((B, T), bool)
    inside[1, start:end] = True
    assert bool(jnp.all(jnp.where(inside[..., None, None] | ~MASK[..., None, None], 0, dirty[0] - clean[0]) == 0))
    assert not bool(jnp.any(jnp.all(jnp.isfinite(dirty[0][1, start]), axis=-1)))
    assert bool(jnp.all(dirty[1] == clean[1]))


def test_a_state_that_overflowed_stays_in_its_document():
    named = {name: x[:, :T] for name, x in arguments("delta_rule", "scalar").items()}
    grown = {**named, "log_a": named["log_a"].copy()}
    grown["log_a"][1, 3:10] = 60  # the state is infinite long before the reset at 17
    clean, dirty = (forward(**x, **FLAGS, chunk=C) for x in (named, grown))
    assert not bool(jnp.any(jnp.isfinite(dirty[0][1, 12])))
    assert bool(jnp.all(dirty[0][0] == clean[0][0]))
    assert bool(jnp.all(dirty[0][1, 17:] == clean[0][1, 17:]))
    assert bool(jnp.all(dirty[1] == clean[1]))


@pytest.mark.parametrize("method", ["chunked", "sequential"])
def test_a_masked_token_changes_nothing_whatever_it_holds(method):
    named = arguments("delta_rule", "scalar")
    garbage = {
        n: x if n == "state" else np.where(MASK.reshape(B, T, *[1] * (x.ndim - 2)), x, np.nan) for n, x in named.items()
    }
    clean, dirty = (forward(**x, **FLAGS, chunk=C, method=method) for x in (named, garbage))
    for one, other in zip(clean, dirty, strict=True):
        assert bool(jnp.all(one == other))


def test_a_stretch_of_time_is_an_affine_map_of_the_state(close):
    named = arguments("delta_rule", "scalar")
    v, state, named["log_a"] = named.pop("v"), named.pop("state"), named["log_a"] / 64  # so that the total counts
    reset = np.zeros((B, T), bool)
    run = jax.jit(
        lambda v, state: untyped(v=v, state=state, **named, reset=reset, mask=MASK, chunk=C, method="chunked")
    )
    total, written = affine_map(run, v, K)
    assert total.shape == (B, H, K, K)
    close(total @ state + written, forward(v=v, state=state, **named, reset=reset, mask=MASK, chunk=C)[1])
