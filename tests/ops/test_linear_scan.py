"""linear_scan against lax.scan in float64: every method, dtype and option, values and gradients."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import linear_scan, reference

METHODS = ("sequential", "associative", "auto")
scan = jax.jit(linear_scan, static_argnames=("method", "reverse"))
B, T, C = 2, 17, 3
PLAIN = {"decay": (B, T, C), "h0": False, "reset": False, "reverse": False}
CASES = {
    "plain": PLAIN,
    "reset": {**PLAIN, "reset": True},
    "reverse": {**PLAIN, "h0": True, "reset": True, "reverse": True},
    "constant": {**PLAIN, "decay": (1, 1, C), "h0": True, "reset": True},
    "per_row": {**PLAIN, "decay": (B, 1, 1), "h0": True, "reset": True, "reverse": True},
}
MATRIX = [
    *((method, "float32", name) for method in METHODS[:2] for name in CASES),
    *(
        (method, kind, name)
        for method in METHODS[:2]
        for kind in ("float64", "bfloat16", "complex64")
        for name in ("reverse", "constant")
    ),
    ("auto", "float32", "reverse"),
]


def random(seed, *shape, kind=""):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) + (1j * rng.normal(size=shape) if kind == "complex64" else 0)
    return x.astype(np.complex64 if kind == "complex64" else np.float32)


def decays(seed, *shape, kind=""):
    x = random(seed, *shape, kind=kind)
    size = np.random.default_rng(seed).uniform(0.5, 1.05, shape)
    return (size * x / np.abs(x)).astype(x.dtype)


@cache
def problem(name, kind, time=T):
    """(a, b, h0), reset, reverse, the cotangent: all of them exact in the narrowest dtype that takes them."""
    case = CASES[name]
    shape = tuple(time if n == T else n for n in case["decay"])
    b, g = (np.asarray(jnp.asarray(random(s, B, time, C, kind=kind))) for s in (1, 2))
    if kind != "complex64":
        b, g = (np.asarray(jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32)) for x in (b, g))
    h0 = random(3, B, C, kind=kind) if case["h0"] else None
    reset = np.random.default_rng(4).random((B, time)) < 0.2 if case["reset"] else None
    return (decays(0, *shape, kind=kind), b, h0), reset, case["reverse"], g


def gradients(run, inputs, g):
    """h and the cotangents of (a, b, h0); g counts the final state twice, as a loss on state and outputs does."""
    given = [x for x in inputs if x is not None]
    h, pull = jax.vjp(run, *given)
    return h, pull(g.at[:, -1].multiply(2))


@cache
def expected(name, kind, time=T):
    inputs, reset, reverse, g = problem(name, kind, time)
    with jax.enable_x64(True):
        inputs = [None if x is None else jnp.asarray(x, np.result_type(x, np.float64)) for x in inputs]
        run = partial(reference.linear_scan, reset=reset, reverse=reverse)
        result = jax.jit(partial(gradients, run))(inputs, jnp.asarray(g, inputs[1].dtype))
        return jax.tree.map(np.asarray, result)


def ours(name, kind, method, time=T):
    (a, b, h0), reset, reverse, g = problem(name, kind, time)
    with jax.enable_x64(kind == "float64"):
        narrow = kind if kind == "complex64" else "float64" if kind == "float64" else "float32"
        a, h0 = (None if x is None else jnp.asarray(x, narrow) for x in (a, h0))
        run = partial(linear_scan, reset=reset, reverse=reverse, method=method)
        return jax.jit(partial(gradients, run))([a, jnp.asarray(b, kind), h0], jnp.asarray(g, kind))


@pytest.mark.parametrize(("method", "kind", "name"), MATRIX)
def test_values_and_gradients_are_the_reference_s(method, kind, name, close):
    h, gradient = ours(name, kind, method)
    assert h.dtype == kind
    wanted_h, wanted_gradient = expected(name, "complex64" if kind == "complex64" else "float32")
    tolerance = {"complex64": "float32"}.get(kind, kind)
    close(h, wanted_h, tolerance)
    close(gradient, wanted_gradient, tolerance)


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("name", ["reverse", "constant"])
@pytest.mark.parametrize("method", METHODS[:2])
def test_short_sequences_are_no_exception(method, name, time, close):
    close(ours(name, "float32", method, time), expected(name, "float32", time))


A, X, H0 = decays(0, B, T, C), random(1, B, T, C), random(3, B, C)


@pytest.mark.parametrize("method", METHODS[:2])
def test_two_halves_with_the_state_carried_are_the_whole(method, close):
    whole = scan(A, X, H0, method=method)
    first = scan(A[:, :5], X[:, :5], H0, method=method)
    second = scan(A[:, 5:], X[:, 5:], first[:, -1], method=method)
    close(jnp.concatenate([first, second], axis=1), whole)


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_reset_is_a_separate_run(method, close):
    packed = scan(A, X, H0, reset=jnp.zeros((B, T), bool).at[:, 5].set(True), method=method)
    close(packed[:, 5:], scan(A[:, 5:], X[:, 5:], method=method))
    close(packed[:, :5], scan(A[:, :5], X[:, :5], H0, method=method))


@pytest.mark.parametrize("method", METHODS[:2])
def test_decays_above_one_are_allowed(method, close):
    with jax.enable_x64(True):
        wanted = np.asarray(reference.linear_scan(*(jnp.asarray(x, np.float64) for x in (3 * A, X, H0))))
    assert np.abs(wanted).max() > 1e6
    close(scan(3 * A, X, H0, method=method), wanted)


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_nan_stays_in_its_row_and_after_its_step(method):
    h = scan(A, X, H0, method=method)
    poisoned = scan(A, jnp.asarray(X).at[1, 6].set(jnp.nan), H0, method=method)
    assert bool(jnp.all(poisoned[0] == h[0]))
    assert bool(jnp.all(poisoned[1, :6] == h[1, :6]))
    assert bool(jnp.all(jnp.isnan(poisoned[1, 6:])))


@pytest.mark.parametrize("method", METHODS[:2])
def test_vmap_is_a_loop(method, close):
    pairs = jnp.stack([A, A[::-1]]), jnp.stack([X, -X])
    mapped = jax.jit(jax.vmap(partial(linear_scan, method=method)))(*pairs)
    close(mapped, jnp.stack([scan(x, y, method=method) for x, y in zip(*pairs, strict=True)]))


@pytest.mark.parametrize("method", METHODS[:2])
def test_remat_inside_a_scan_over_layers_keeps_values_and_gradients(method, close):
    layers = jnp.stack([A, A[::-1]])

    def stacked(layers, b):
        body = jax.checkpoint(lambda h, a: (scan(a, h, method=method), None))
        return jax.lax.scan(body, b, layers)[0]

    def unrolled(layers, b):
        return reference.linear_scan(layers[1], reference.linear_scan(layers[0], b))

    def gradient(f):
        h, pull = jax.vjp(f, layers, jnp.asarray(X))
        return h, pull(jnp.asarray(random(2, B, T, C)))

    close(jax.jit(gradient, static_argnums=0)(stacked), jax.jit(gradient, static_argnums=0)(unrolled))


@pytest.mark.parametrize("method", METHODS[:2])
def test_the_complex_vjp_has_no_conjugate(method):
    a, b, h0 = (jnp.full((1, 2, 1), 0.5 + 0.5j), jnp.zeros((1, 2, 1), jnp.complex64), jnp.ones((1, 1), jnp.complex64))
    _, pull = jax.vjp(lambda h0: scan(a, b, h0, method=method)[:, -1], h0)
    np.testing.assert_allclose(pull(jnp.ones((1, 1), jnp.complex64))[0], [[0.5j]], atol=1e-7)  # a², not conj(a)²


ONES = np.ones((B, T, C), np.float32)
WRONG = {
    "a must be float32 or wider (a decay of 0.999 rounds to 1 in bfloat16), got bfloat16": {
        "a": ONES.astype(jnp.bfloat16)
    },
    "a must be float32 or wider (a decay of 0.999 rounds to 1 in float16), got float16": {"a": ONES.astype(np.float16)},
    "a must be floating point or complex, got dtype int32": {"a": ONES.astype(np.int32)},
    "b must be floating point or complex, got dtype bool": {"b": ONES > 0},
    "reset must be boolean, got dtype float32": {"reset": ONES[..., 0]},
    "reset must have shape (B T) with T = 17, got (2, 16)": {"reset": ONES[:, 1:, 0] > 0},
    "b must have shape (B T ...), got (2,)": {"b": ONES[:, 0, 0]},
    "a must broadcast to b of shape (2, 17, 3) axis by axis, got shape (3,)": {"a": ONES[0, 0]},
    "a must broadcast to b of shape (2, 17, 3) axis by axis, got shape (2, 16, 3)": {"a": ONES[:, 1:]},
    "b must have at least one time step, got shape (2, 0, 3)": {"b": ONES[:, :0], "a": ONES[:, :0]},
    "h0 must have shape (2, 3) (b without time), got (2, 4)": {"h0": np.ones((2, 4), np.float32)},
    "method must be one of auto, sequential, associative, got 'fast'": {"method": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_scan(**{"a": ONES, "b": ONES, **WRONG[message]})
