"""Blocks of queries against all of them at once, and a ring's slots in use against the whole ring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.causal_attention import Keys, Tokens, causal_attention, ring_attention, visible
from jaxseq.ops.positions import place

B, T, H, G, K, PAST = 2, 22, 4, 2, 6, 5
BLOCK = 6  # queries: four blocks, the last one of four


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def problem(past=0, reset=False, mask=False):
    """Queries, where they are, and keys, the first `past` of which are of document 0."""
    rng = np.random.default_rng(1)
    resets = jnp.asarray(rng.random((B, T)) < 0.15) if reset else None
    valid = jnp.asarray(rng.random((B, T)) < 0.7) if mask else None
    document, position = place(jnp.full(B, past), resets, valid, T)
    own = position if valid is None else jnp.where(valid, position, -1)
    earlier = jnp.broadcast_to(jnp.arange(past)[::-1], (B, past)).astype(own.dtype)  # a ring has no order
    at = Tokens(jnp.concatenate([earlier, own], 1), jnp.concatenate([jnp.zeros_like(earlier), document], 1))
    keys = Keys(drawn(B, G, past + T, K, seed=2), drawn(B, G, past + T, K, seed=3), at)
    return drawn(B, T, H, K), Tokens(position, document), keys


def at_once(q, at, keys, window):
    """Softmax over what is seen, written out."""
    seen = visible(at, keys.at, window)[:, None]
    k, v = (jnp.repeat(x, H // G, axis=1) for x in (keys.k, keys.v))
    scores = jnp.where(seen, jnp.einsum("bthk,bhsk->bhts", q, k) / K**0.5, -jnp.inf)
    some = jnp.any(seen, axis=-1, keepdims=True)
    weight = jnp.where(some, jax.nn.softmax(jnp.where(some, scores, 0), axis=-1), 0)
    return jnp.einsum("bhts,bhsk->bthk", weight, v)


@pytest.mark.parametrize("window", [3, 100])
@pytest.mark.parametrize("case", [{}, {"past": PAST}, {"reset": True}, {"mask": True, "past": PAST}], ids=str)
def test_blocks_are_all_queries_at_once_in_values_and_gradients(case, window, close):
    q, at, keys = problem(**case)
    sees = jnp.any(visible(at, keys.at, window), axis=2)[..., None, None]  # a query that sees nothing is not defined
    weights = jnp.where(sees, drawn(B, T, H, K, seed=4), 0)

    def outcome(attention):
        def weighed(q, k, v):
            y = attention(q, at, Keys(k, v, keys.at))
            return jnp.sum(weights * y), jnp.where(sees, y, 0)

        return jax.jit(jax.grad(weighed, (0, 1, 2), has_aux=True))(q, keys.k, keys.v)

    dense = not case.get("mask", False)
    got = outcome(lambda *args: causal_attention(*args, window, dense=dense, block=BLOCK))
    close(got, outcome(lambda *args: at_once(*args, window)))


def test_a_block_computes_no_score_of_keys_beyond_its_reach():
    q, at, keys = problem()
    program = str(jax.make_jaxpr(lambda *x: causal_attention(*x, 3, dense=True, block=BLOCK))(q, at, keys))
    scores = [f"f32[{B},{G},{H // G},{n},{s}]" for n, s in ((6, 6), (6, 8), (4, 6))]
    assert all(shape in program for shape in scores)
    assert f"{T},{T}]" not in program
    assert f"6,{T}]" not in program


@pytest.mark.parametrize("length", [1, 4, 5, 9, 17, 40])
def test_the_slots_in_use_are_the_whole_ring(length, close):
    slots = 17
    tokens = np.arange(max(0, length - slots), length)
    position = np.full((1, slots), -1, np.int32)
    position[0, tokens % slots] = tokens
    zeros = jnp.zeros((1, slots), jnp.int32)
    ring = Keys(drawn(1, G, slots, K), drawn(1, G, slots, K, seed=1), Tokens(jnp.asarray(position), zeros))
    q, at = drawn(1, 1, H, K, seed=2), Tokens(jnp.full((1, 1), length - 1), zeros[:, :1])
    got = jax.jit(lambda *x: ring_attention(*x, slots, dtype=jnp.float32, fewest=4))(q, at, ring)
    close(got, at_once(q, at, ring, slots))


def test_a_nan_in_a_value_reaches_the_queries_that_see_it_and_no_other():
    q, at, keys = problem()
    run = jax.jit(lambda v: causal_attention(q, at, keys._replace(v=v), 4, dense=True, block=BLOCK))
    clean, poisoned = run(keys.v), run(keys.v.at[0, 1, 9, 3].set(jnp.inf))
    reached = (np.arange(T) >= 9) & (np.arange(T) < 13)
    np.testing.assert_array_equal(jnp.isnan(poisoned[0]).all((1, 2)), reached)
    np.testing.assert_array_equal(poisoned[0][~reached], clean[0][~reached])
    np.testing.assert_array_equal(poisoned[1], clean[1])


def test_a_query_that_sees_nothing_is_finite():
    q, at, keys = problem()
    unseen = keys._replace(at=Tokens(jnp.full((B, T), -1), keys.at.document))
    assert bool(jnp.all(jnp.isfinite(causal_attention(q, at, unseen, T, block=BLOCK))))
