"""linear_scan against lax.scan in float64: every method, dtype and option, values and gradients."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import linear_scan, reference

METHODS = ("sequential", "associative", "chunked")
linear_scan = partial(linear_scan, chunk=5)  # does not divide T
scan = jax.jit(linear_scan, static_argnames=("method", "reverse"))
B, T, C = 2, 16, 3
PLAIN = {"decay": (B, T, C), "h0": False, "flags": (), "reverse": False}
CASES = {
    "plain": PLAIN,
    "flags": {**PLAIN, "flags": ("reset", "mask")},
    "reverse": {**PLAIN, "h0": True, "flags": ("reset", "mask"), "reverse": True},
    "constant": {**PLAIN, "decay": (1, 1, C), "h0": True, "flags": ("reset",)},
    "per_row": {**PLAIN, "decay": (B, 1, 1), "h0": True, "flags": ("reset", "mask"), "reverse": True},
}
MATRIX = [
    *(("sequential", "float32", name) for name in CASES),
    *((method, "float32", name) for method in METHODS[1:] for name in ("constant", "per_row")),  # "flags": test_dtypes
    *((method, "complex64", "reverse") for method in METHODS[:2]),
    *((f"interpret:{name}", "float32", "constant") for name in ("tpu", "gpu")),
    ("interpret:gpu", "complex64", "reverse"),
    pytest.param("interpret:tpu", "complex64", "reverse", marks=pytest.mark.slow),
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
    """(a, b, h0), options, the cotangent."""
    case = CASES[name]
    shape = tuple(time if n == T else n for n in case["decay"])
    b, g = (random(s, B, time, C, kind=kind) for s in (1, 2))
    h0 = random(3, B, C, kind=kind) if case["h0"] else None
    reset, mask = np.random.default_rng(4).random((2, B, time)) < np.array([0.2, 0.8])[:, None, None]
    flags = {name: flag for name, flag in (("reset", reset), ("mask", mask)) if name in case["flags"]}
    return (decays(0, *shape, kind=kind), b, h0), {**flags, "reverse": case["reverse"]}, g


def gradients(run, inputs, g):
    """h and the cotangents of (a, b, h0); g counts the final state twice, as a loss on state and outputs does."""
    given = [x for x in inputs if x is not None]
    h, pull = jax.vjp(run, *given)
    return h, pull(g.at[:, -1].multiply(2))


@cache
def expected(name, kind, time=T):
    inputs, options, g = problem(name, kind, time)
    with jax.enable_x64(True):
        inputs = [None if x is None else jnp.asarray(x, np.result_type(x, np.float64)) for x in inputs]
        run = partial(reference.linear_scan, **options)
        result = jax.jit(partial(gradients, run))(inputs, jnp.asarray(g, inputs[1].dtype))
        return jax.tree.map(np.asarray, result)


def ours(name, kind, method, time=T):
    (a, b, h0), options, g = problem(name, kind, time)
    run = partial(linear_scan, **options, method=method)
    return jax.jit(partial(gradients, run))([a, b, h0], g)


@pytest.mark.parametrize(("method", "kind", "name"), MATRIX)
def test_values_and_gradients_are_the_reference_s(method, kind, name, close):
    h, gradient = ours(name, kind, method)
    assert h.dtype == kind
    close((h, gradient), expected(name, kind))


@pytest.mark.parametrize(("name", "time"), [("reverse", 1), ("per_row", 2)])
@pytest.mark.parametrize("method", METHODS)
def test_short_sequences_are_no_exception(method, name, time, close):
    close(ours(name, "float32", method, time), expected(name, "float32", time))


def test_each_argument_has_its_derivative_alone(close):
    inputs = decays(0, B, T, C), random(1, B, T, C), random(3, B, C)

    def loss(*inputs):
        return jnp.sum(jnp.sin(linear_scan(*inputs)))

    alone = jax.jit(lambda *x: tuple(jax.grad(loss, i)(*x) for i in range(3)))(*inputs)
    close(alone, jax.jit(jax.grad(loss, (0, 1, 2)))(*inputs))


A, X, H0 = decays(0, B, T, C), random(1, B, T, C), random(3, B, C)


@pytest.mark.parametrize("method", METHODS)
def test_two_halves_with_the_state_carried_are_the_whole(method, close):
    whole = scan(A, X, H0, method=method)
    first = scan(A[:, :8], X[:, :8], H0, method=method)
    second = scan(A[:, 8:], X[:, 8:], first[:, -1], method=method)
    close(jnp.concatenate([first, second], axis=1), whole)


@pytest.mark.parametrize("method", METHODS)
def test_decays_above_one_are_allowed(method, close):
    with jax.enable_x64(True):
        wanted = np.asarray(reference.linear_scan(*(jnp.asarray(x, np.float64) for x in (3 * A, X, H0))))
    assert np.abs(wanted).max() > 1e6
    close(scan(3 * A, X, H0, method=method), wanted)


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_stays_in_its_row_and_its_document(method):
    reset = jnp.zeros((B, T), bool).at[1, 11].set(True)  # in the chunk after the poison's
    poison = jnp.asarray(X).at[1, 6].set(jnp.nan)

    def run(b):
        h, pull = jax.vjp(lambda a, b: linear_scan(a, b, H0, reset=reset, method=method), jnp.asarray(A), b)
        return h, *pull(h)

    clean, poisoned = (jax.jit(run)(b) for b in (jnp.asarray(X), poison))
    for whole, part in zip(clean, poisoned, strict=True):
        assert bool(jnp.all(part[0] == whole[0]))
        assert bool(jnp.all(part[1, 11:] == whole[1, 11:]))
    assert bool(jnp.all(jnp.isnan(poisoned[0][1, 6:11])))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_at_padding_does_not_matter(method):
    mask = jnp.ones((B, T), bool).at[:, 6].set(False)
    dirty = jnp.asarray(X).at[:, 6].set(jnp.nan), jnp.asarray(A).at[:, 6].set(jnp.inf)
    h = scan(A, X, H0, mask=mask, method=method)
    assert bool(jnp.all(scan(dirty[1], dirty[0], H0, mask=mask, method=method) == h))
    assert bool(jnp.all(h[:, 6] == h[:, 5]))


def second_order(run, inputs, tangents):
    """h and its tangent, and the gradient of a function of h and its tangent."""

    def loss(*inputs):
        return jnp.sum(jnp.sin(run(*inputs)))

    return jax.jvp(run, inputs, tangents), jax.jvp(jax.grad(loss, (0, 1, 2)), inputs, tangents)


def test_forward_mode_and_second_derivatives_are_the_reference_s(close):
    inputs, options, _ = problem("per_row", "float64")
    tangents = tuple(random(5 + i, *x.shape) for i, x in enumerate(inputs))
    with jax.enable_x64(True):
        pairs = [tuple(jnp.asarray(x, np.float64) for x in xs) for xs in (inputs, tangents)]
        runs = (partial(linear_scan, **options, method="sequential"), partial(reference.linear_scan, **options))
        ours, wanted = (jax.jit(partial(second_order, run))(*pairs) for run in runs)
        close(ours, wanted, "float64")


def test_a_gradient_needs_no_memory_but_its_inputs_and_results():
    shape = (2, 64, 32)
    a, b, g = (jax.ShapeDtypeStruct(shape, jnp.float32) for _ in range(3))

    def gradient(a, b, g):
        h, pull = jax.vjp(partial(linear_scan, method="sequential"), a, b)
        return h, pull(g)

    memory = jax.jit(gradient).lower(a, b, g).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.1 * (memory.argument_size_in_bytes + memory.output_size_in_bytes)


@pytest.mark.parametrize("method", METHODS[:2])
def test_vmap_is_a_loop(method, close):
    pairs = jnp.stack([A, A[::-1]]), jnp.stack([X, -X])
    mapped = jax.jit(jax.vmap(partial(linear_scan, method=method)))(*pairs)
    close(mapped, jnp.stack([scan(x, y, method=method) for x, y in zip(*pairs, strict=True)]))


def test_remat_inside_a_scan_over_layers_keeps_values_and_gradients(close):
    layers = jnp.stack([A, A[::-1]])

    def stacked(layers, b):
        body = jax.checkpoint(lambda h, a: (scan(a, h, method="sequential"), None))
        return jax.lax.scan(body, b, layers)[0]

    def unrolled(layers, b):
        return reference.linear_scan(layers[1], reference.linear_scan(layers[0], b))

    def gradient(f):
        h, pull = jax.vjp(f, layers, jnp.asarray(X))
        return h, pull(jnp.asarray(random(2, B, T, C)))

    close(jax.jit(gradient, static_argnums=0)(stacked), jax.jit(gradient, static_argnums=0)(unrolled))


def test_the_complex_vjp_has_no_conjugate():
    a, b, h0 = (jnp.full((1, 2, 1), 0.5 + 0.5j), jnp.zeros((1, 2, 1), jnp.complex64), jnp.ones((1, 1), jnp.complex64))
    _, pull = jax.vjp(lambda h0: scan(a, b, h0)[:, -1], h0)
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
    "reset must have shape (B T) with T = 16, got (2, 15)": {"reset": ONES[:, 1:, 0] > 0},
    "b must have shape (B T ...), got (2,)": {"b": ONES[:, 0, 0]},
    "a must broadcast to b of shape (2, 16, 3) axis by axis, got shape (3,)": {"a": ONES[0, 0]},
    "a must broadcast to b of shape (2, 16, 3) axis by axis, got shape (2, 15, 3)": {"a": ONES[:, 1:]},
    "b must have at least one time step, got shape (2, 0, 3)": {"b": ONES[:, :0], "a": ONES[:, :0]},
    "h0 must have shape (2, 3) (b without time), got (2, 4)": {"h0": np.ones((2, 4), np.float32)},
    "mask must be boolean, got dtype float32": {"mask": ONES[..., 0]},
    "method must be one of auto, sequential, associative, chunked, kernel:tpu, kernel:gpu, ": {"method": "fast"},
    "chunk must be a positive int, got 0": {"chunk": 0},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_scan(**{"a": ONES, "b": ONES, **WRONG[message]})
