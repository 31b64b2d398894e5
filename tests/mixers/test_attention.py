"""Attention against softmax written out in float64, and its ring."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.mixers.attention import Attention, write

B, T, D = 2, 24, 16


def make(**options):
    mixer = Attention(D, **options)
    rng = np.random.default_rng(0)
    shapes = jax.tree.map(jnp.shape, meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, D)))))
    params = jax.tree.map(
        lambda s: rng.normal(size=s).astype(np.float32) / 2, shapes, is_leaf=lambda s: type(s) is tuple
    )
    return mixer, params, rng.normal(size=(B, T, D)).astype(np.float32)


def turned(x, base):
    """x (T, H, K) with the pair (i, i + K/2) of token t multiplied by exp(i t base^(-2i/K)), as complex numbers."""
    time, _, width = x.shape
    pair = x[..., : width // 2] + 1j * x[..., width // 2 :]
    angle = np.arange(time)[:, None] * base ** (-2 * np.arange(width // 2) / width)
    pair = pair * np.exp(1j * angle)[:, None]
    return np.concatenate([pair.real, pair.imag], axis=-1)


def definition(params, x, heads, groups, width, window=None, base=10000.0):
    """y (T, D) of one document x (T, D), one query after another, in float64."""
    w = {name: value.astype(np.float64) for name, value in params["params"].items()}
    q, k, v = ((x @ w[name]).reshape(len(x), -1, width) for name in ("w_q", "w_k", "w_v"))
    q, k = turned(q, base), turned(k, base)
    y = np.zeros((len(x), heads, width))
    for t in range(len(x)):
        first = 0 if window is None else max(0, t - window + 1)
        for head in range(heads):
            group = head // (heads // groups)
            score = k[first : t + 1, group] @ q[t, head] / np.sqrt(width)
            weight = np.exp(score - score.max())
            y[t, head] = weight / weight.sum() @ v[first : t + 1, group]
    return y.reshape(len(x), -1) @ w["w_o"]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"heads": 2}, (2, 2, 8)),
        ({"heads": 4, "kv_heads": 2, "window": 5}, (4, 2, 4, 5)),
        ({"heads": 4, "kv_heads": 1, "head_dim": 6, "window": 1000, "rope_base": 50.0}, (4, 1, 6, 1000, 50.0)),
    ],
    ids=["full", "grouped-window", "one-key-head"],
)
def test_values_are_the_definition_s(options, sizes, close):
    mixer, params, x = make(**options)
    y, _ = jax.jit(mixer.apply)(params, x)
    close(y, np.stack([definition(params, row.astype(np.float64), *sizes) for row in x]))


@pytest.mark.parametrize("part", [1, 8])
def test_a_ring_gone_round_three_times_gives_the_parallel_result(part, close):
    mixer, params, x = make(heads=2, window=8)
    step, state, ys = jax.jit(mixer.apply), None, []
    for piece in np.split(x, T // part, axis=1):
        y, state = step(params, piece, state=mixer.init_state(B) if state is None else state)
        ys.append(y)
    close(jnp.concatenate(ys, axis=1), jax.jit(mixer.apply)(params, x)[0])
    np.testing.assert_array_equal(state["position"], np.tile(np.arange(16, 24), (B, 1)))
    np.testing.assert_array_equal(state["length"], [T, T])


def test_a_window_sees_exactly_its_tokens():
    mixer, params, x = make(heads=2, window=5)
    jac = jax.jit(jax.jacobian(lambda x: mixer.apply(params, x)[0][0]))(x[:1])[:, :, 0]
    seen = np.asarray(jnp.max(jnp.abs(jac), axis=(1, 3)) > 0)
    distance = np.arange(T)[:, None] - np.arange(T)
    np.testing.assert_array_equal(seen, (distance >= 0) & (distance < 5))


@pytest.mark.parametrize("part", [1, 6])
def test_beyond_the_context_outputs_are_nan_from_exactly_there(part):
    mixer, params, x = make(heads=2, context=10)
    step, state, ys = jax.jit(mixer.apply), mixer.init_state(B), []
    reset = np.zeros((B, T), bool)
    reset[1, 15] = True  # the second row starts anew in time to stay below 10 from there on
    for piece, start in zip(np.split(x, T // part, axis=1), np.split(reset, T // part, axis=1), strict=True):
        y, state = step(params, piece, state=state, reset=start)
        ys.append(y)
    lost = np.isnan(np.concatenate(ys, axis=1))
    time = np.arange(T)
    np.testing.assert_array_equal(lost[0].any(-1), time >= 10)
    np.testing.assert_array_equal(lost[0].all(-1), time >= 10)
    np.testing.assert_array_equal(lost[1].any(-1), (time >= 10) & (time < 15))


def test_padding_takes_no_place_in_the_context():
    mixer, params, x = make(heads=2, context=T)
    mask = np.arange(T) % 2 == np.zeros((B, 1))
    step = jax.jit(mixer.apply)
    _, state = step(params, x, mask=mask)
    y, state = step(params, x, state=state, mask=mask)
    assert bool(jnp.all(jnp.isfinite(y)))
    np.testing.assert_array_equal(state["length"], [T, T])


def test_a_nan_reaches_the_queries_that_see_it_and_no_other():
    mixer, params, x = make(heads=2, window=4)
    run = jax.jit(mixer.apply)
    clean, _ = run(params, x)
    poisoned, _ = run(params, jnp.asarray(x).at[0, 9].set(jnp.nan))
    time = np.arange(T)
    np.testing.assert_array_equal(jnp.isnan(poisoned[0]).all(-1), (time >= 9) & (time < 13))
    np.testing.assert_array_equal(jnp.isnan(poisoned[0]).any(-1), (time >= 9) & (time < 13))
    np.testing.assert_array_equal(poisoned[1], clean[1])


def test_no_slot_is_written_twice():
    """Two writes to a slot would be in no certain order on an accelerator: here tokens come last to first."""
    mixer, _, _ = make(heads=2, window=8)
    position = jnp.arange(T, dtype=jnp.int32)[None].repeat(B, axis=0)
    new = {"k": jnp.zeros((B, 2, T, 8)), "v": jnp.zeros((B, 2, T, 8)), "position": position}
    length, document = jnp.full(B, T, jnp.int32), jnp.zeros((B, T), jnp.int32)
    forward = write(mixer.init_state(B), new, document, length)
    backward = write(mixer.init_state(B), jax.tree.map(lambda x: x[:, ::-1], new), document, length)
    np.testing.assert_array_equal(forward["position"], backward["position"])


def test_bfloat16_decoding_is_the_bfloat16_parallel_result(close):
    mixer, params, x = make(heads=2, window=8)
    x = jnp.asarray(x, jnp.bfloat16)
    step, state, ys = jax.jit(mixer.apply), mixer.init_state(B), []
    for t in range(T):
        y, state = step(params, x[:, t : t + 1], state=state)
        ys.append(y)
    assert state["k"].dtype == state["v"].dtype == jnp.float32
    close(jnp.concatenate(ys, axis=1), jax.jit(mixer.apply)(params, x)[0], "bfloat16")


def test_without_a_state_no_empty_keys_are_attended_to():
    mixer, params, x = make(heads=2, context=1000)

    def largest_axis(**given):
        equations = jax.make_jaxpr(partial(mixer.apply, **given))(params, x).eqns
        return max(max(e.outvars[0].aval.shape) for e in equations if e.primitive.name == "dot_general")

    assert largest_axis() == B * T
    assert largest_axis(state=mixer.init_state(B)) == 1000 + T
