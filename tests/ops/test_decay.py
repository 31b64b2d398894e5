"""decayed_scores against the double sum in float64, in chunks of several tiles: values and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.decay import TILE, decay_from_start, decay_to_end, decayed_scores

C, K = 2 * TILE + 5, 3  # filled up to four tiles
DOCUMENT = np.repeat([0, 1, 2], [6, 9, C - 15])[None, None]
STRICT = (False, True)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def problem(channels):
    queries, keys = ([random(seed, 2, 1, C, K) for seed in seeds] for seeds in ((1, 2), (3, 4)))
    size = np.random.default_rng(5).choice([1e-6, 0.5, 50], (2, 2, C, channels))
    return queries, keys, np.float32(-size * np.abs(random(6, 2, 2, C, channels)))


def exact(queries, keys, log_a):
    """Every entry by its own sum."""
    t, j, i = np.ogrid[:C, :C, :C]
    scores = []
    for q, strict in zip(queries, STRICT, strict=True):
        between = jnp.einsum("tji,...ik->...tjk", np.float64((j < i) & (i <= t - strict)), log_a)
        seen = np.tri(C, k=-int(strict), dtype=bool) & (DOCUMENT[..., :, None] == DOCUMENT[..., None, :])
        row = [jnp.einsum("...tk,...jk,...tjk->...tj", q, k, jnp.exp(between)) for k in keys]
        scores.append(jnp.stack([jnp.where(seen, x, 0) for x in row], axis=-2))
    return jnp.stack(scores, axis=-4)


def gradients(run, args):
    scores, pull = jax.vjp(lambda args: run(*args), args)
    return scores, pull(jnp.asarray(random(7, *scores.shape), scores.dtype))


@pytest.mark.parametrize("channels", [1, K])
def test_scores_and_gradients_are_those_of_the_double_sum(channels, close):
    args = problem(channels)
    run = jax.jit(partial(gradients, partial(decayed_scores, document=DOCUMENT, strict=STRICT)))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), args)
        expected = jax.tree.map(np.asarray, jax.jit(partial(gradients, exact))(wide))
    close(run(args), expected)


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_decay_from_the_start_is_that_of_the_steps_before(exclusive, close):
    log_a = problem(K)[2]
    sums = np.cumsum(log_a.astype(np.float64), axis=-2)
    close(decay_from_start(log_a, exclusive=exclusive), np.exp(sums - log_a if exclusive else sums))


def test_the_decay_to_the_end_is_that_of_the_steps_after(close):
    log_a = problem(K)[2].astype(np.float64)
    close(decay_to_end(np.float32(log_a)), np.exp(np.flip(np.cumsum(np.flip(log_a, -2), -2), -2) - log_a))


@pytest.mark.parametrize("channels", [1, K])
def test_gradients_have_no_sum_over_more_axes_than_the_compiler_survives(channels):
    args = jax.tree.map(lambda x: x[None, None], problem(channels))  # more axes: those of chunks and of a vmap
    program = jax.make_jaxpr(partial(gradients, partial(decayed_scores, strict=STRICT)))(args)
    assert max(axes_of_sums(program.jaxpr)) <= 6  # XLA for CPU crashed at the sum of a product over 7


def axes_of_sums(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "reduce_sum":
            yield equation.invars[0].aval.ndim
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from axes_of_sums(inner)
