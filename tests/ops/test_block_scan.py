"""block_scan against lax.scan in float64: every method and size of block, values and gradients."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import block_scan, reference

METHODS = ("sequential", "associative", "chunked")
B, T = 2, 10
CASES = {  # G, K, the leading axes of A, options
    "pairs": (3, 2, (B, T), {}),
    "constant": (2, 3, (1, 1), {}),
    "reverse": (1, 10, (1, T), {"reverse": True}),
}


@cache
def problem(name, kind="float32"):
    groups, size, lead, options = CASES[name]
    rng = np.random.default_rng(0)
    shapes = (*lead, groups, size, size), (B, T, groups, size), (B, groups, size), (B, T, groups, size)
    A, b, h0, g = (rng.normal(size=shape) for shape in shapes)
    if kind == "complex64":
        A, b, h0, g = (x + 1j * rng.normal(size=x.shape) for x in (A, b, h0, g))
    reset, mask = rng.random((B, T)) < 0.2, rng.random((B, T)) < 0.8
    inputs = tuple(np.asarray(x, kind) for x in (A / size, b, h0, g))
    return inputs, {**options, "reset": reset, "mask": mask}


def gradients(run, A, b, h0, g):
    h, pull = jax.vjp(run, A, b, h0)
    return h, pull(g.at[:, -1].multiply(2))


@cache
def expected(name, kind="float32"):
    inputs, options = problem(name, kind)
    with jax.enable_x64(True):
        wide = (jnp.asarray(x, np.result_type(x, np.float64)) for x in inputs)
        return jax.tree.map(np.asarray, jax.jit(partial(gradients, partial(reference.block_scan, **options)))(*wide))


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((method, "reverse") for method in METHODS[:2]),
        *((method, "constant") for method in METHODS[:2]),
        ("interpret:gpu", "constant"),  # "pairs", by every method: test_dtypes
    ],
)
def test_values_and_gradients_are_the_reference_s(method, name, close):
    inputs, options = problem(name)
    run = partial(block_scan, **options, method=method, chunk=4)
    close(jax.jit(partial(gradients, run))(*(jnp.asarray(x) for x in inputs)), expected(name))


def test_complex_matrices_are_transposed_without_a_conjugate(close):
    inputs, options = problem("pairs", "complex64")
    run = partial(block_scan, **options)
    close(jax.jit(partial(gradients, run))(*(jnp.asarray(x) for x in inputs)), expected("pairs", "complex64"))


def test_forward_mode_and_second_derivatives_are_the_reference_s(close):
    (A, b, h0, _), options = problem("constant", "float64")

    def product(run, inputs, tangents):
        return jax.jvp(jax.grad(lambda *x: jnp.sum(jnp.sin(run(*x))), (0, 1, 2)), inputs, tangents)

    with jax.enable_x64(True):
        inputs = tuple(jnp.asarray(x) for x in (A, b, h0))
        runs = (partial(f, **options) for f in (block_scan, reference.block_scan))
        ours, wanted = (jax.jit(partial(product, run))(inputs, tuple(x[::-1] for x in inputs)) for run in runs)
        close(ours, wanted, "float64")


def test_two_halves_with_the_state_carried_are_the_whole(close):
    (A, b, h0, _), options = problem("pairs")
    reset, mask = options["reset"], options["mask"]
    run = jax.jit(partial(block_scan, method="sequential"))
    first = run(A[:, :5], b[:, :5], h0, reset=reset[:, :5], mask=mask[:, :5])
    second = run(A[:, 5:], b[:, 5:], first[:, -1], reset=reset[:, 5:], mask=mask[:, 5:])
    close(jnp.concatenate([first, second], axis=1), run(A, b, h0, reset=reset, mask=mask))


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_stays_in_its_row_and_its_document(method):
    (A, b, h0, _), _ = problem("pairs")
    reset = jnp.zeros((B, T), bool).at[1, 7].set(True)
    run = jax.jit(lambda A, b: block_scan(A, b, h0, reset=reset, method=method, chunk=4))
    clean, poisoned = run(A, b), run(jnp.asarray(A).at[1, 3].set(jnp.nan), b)
    assert bool(jnp.all(jnp.isnan(poisoned[1, 3:7])))
    poisoned = poisoned.at[1, 3:7].set(clean[1, 3:7])
    assert bool(jnp.all(poisoned == clean))


ONES = np.ones((B, T, 3, 2), np.float32)
EYES = np.broadcast_to(np.eye(2, dtype=np.float32), (B, T, 3, 2, 2))
WRONG = {
    "A must have shape (B' T' G K K) with K = 2, got (2, 10, 3, 2, 1)": {"A": EYES[..., :1]},
    "A must have the B and T of b, (2, 10), or size 1 there, got shape (2, 9, 3, 2, 2)": {"A": EYES[:, 1:]},
    "A must be float32 or wider (a decay of 0.999 rounds to 1 in bfloat16), got bfloat16": {
        "A": EYES.astype(jnp.bfloat16)
    },
    "b must have shape (B T G K), got (2, 10, 3)": {"b": ONES[..., 0]},
    "b must have at least one time step, got shape (2, 0, 3, 2)": {"b": ONES[:, :0], "A": EYES[:, :0]},
    "h0 must have shape (B G K) with G = 3, got (2, 2, 2)": {"h0": ONES[:, 0, :2]},
    "method must be one of auto, sequential, associative, chunked, kernel:tpu, kernel:gpu, ": {"method": "fast"},
    "chunk must be a positive int, got 2.0": {"chunk": 2.0},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        block_scan(**{"A": EYES, "b": ONES, **WRONG[message]})


@pytest.mark.parametrize(("size", "dtype"), [(5, "float32"), (2, "complex64")])
def test_a_kernel_that_does_not_fit_is_refused(size, dtype):
    A, b = np.ones((1, 2, 1, size, size), dtype), np.ones((1, 2, 1, size), dtype)
    with pytest.raises(ValueError, match=f"needs float32 and blocks of at most 4, got {dtype}, K = {size}"):
        block_scan(A, b, method="interpret:gpu")
