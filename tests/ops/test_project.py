"""linear_scan_project: states that are made, read and dropped chunk by chunk (values and gradients: test_dtypes)."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import linear_scan_project

B, T, D, N = 2, 12, 3, 2


def coefficients(params, xs):
    decay = jnp.exp(-jax.nn.softplus(xs["x"] * params["w"])[..., None] * jnp.exp(params["rates"]))
    return decay, xs["x"][..., None] * params["gain"]


def readout(params, h, xs):
    return jnp.einsum("btdn,dn->btd", h, params["out"]) + xs["x"]


def problem(kind):
    rng = np.random.default_rng(0)
    params = {"w": (D,), "rates": (D, N), "gain": (N,), "out": (D, N)}
    params = {name: jnp.asarray(rng.normal(size=shape), kind) for name, shape in params.items()}
    xs, h0 = {"x": jnp.asarray(rng.normal(size=(B, T, D)), kind)}, jnp.asarray(rng.normal(size=(B, D, N)), kind)
    return (params, xs, h0), {"reset": rng.random((B, T)) < 0.2, "mask": rng.random((B, T)) < 0.8}


def projected(params, xs, h0, **options):
    return linear_scan_project(partial(coefficients, params), partial(readout, params), xs, h0, **options)


def test_two_halves_with_the_state_carried_are_the_whole(close):
    (params, xs, h0), options = problem("float32")

    def part(h0, steps):
        return run(params, {"x": xs["x"][:, steps]}, h0, reset=options["reset"][:, steps])

    run = jax.jit(partial(projected, chunk=4))
    (first, state), (both, final) = part(h0, slice(0, 6)), part(h0, slice(None))
    second, end = part(state, slice(6, None))
    close((jnp.concatenate([first, second], axis=1), end), (both, final))


def test_a_nan_stays_in_its_row_and_its_document():
    (params, xs, h0), _ = problem("float32")
    reset = jnp.zeros((B, T), bool).at[1, 7].set(True)
    run = jax.jit(lambda x: projected(params, {"x": x}, h0, reset=reset, chunk=4)[0])
    clean, poisoned = run(xs["x"]), run(xs["x"].at[1, 3].set(jnp.nan))
    assert bool(jnp.all(jnp.isnan(poisoned[1, 3:7])))
    assert bool(jnp.all(poisoned.at[1, 3:7].set(clean[1, 3:7]) == clean))


def test_states_are_not_kept_for_all_steps():
    time, width, states = 512, 8, 16
    rates, h0 = jnp.ones((width, states)), jnp.zeros((1, width, states))

    def loss(rates, x):
        run = partial(linear_scan_project, lambda x: (jnp.exp(-x[..., None] * rates), x[..., None] * rates))
        return jnp.sum(run(lambda h, x: jnp.sum(h, axis=-1), x, h0, chunk=16)[0])

    x = jax.ShapeDtypeStruct((1, time, width), jnp.float32)
    memory = jax.jit(jax.grad(loss, (0, 1))).lower(rates, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.5 * time * width * states * 4


def test_the_state_is_float32_between_chunks_of_bfloat16(close):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 2)), jnp.bfloat16)
    decay = jnp.full((1, 1, 2), 0.999, jnp.float32)
    run = partial(linear_scan_project, lambda x: (decay, x), lambda h, x: h, x, jnp.zeros((1, 2), jnp.bfloat16))
    y, state = run(chunk=4)
    assert state.dtype == jnp.float32
    close((y, state), run(chunk=64))


X = np.ones((B, T, D), np.float32)
WRONG = {
    "xs must have at least one array, got {}": {"xs": {}},
    "xs must have shape (B T ...), got (2,)": {"xs": X[:, 0, 0]},
    "reset must have shape (B T) with T = 12, got (2, 11)": {"reset": X[:, 1:, 0] > 0},
    "h0 must have shape (B ...) with B = 2, got (1, 3)": {"h0": X[:1, 0]},
    "chunk must be a positive int, got -1": {"chunk": -1},
    "method must be one of auto, sequential, associative, chunked, kernel:tpu, ": {"method": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_scan_project(lambda x: (x, x), lambda h, x: h, **{"xs": X, "h0": X[:, 0], **WRONG[message]})
