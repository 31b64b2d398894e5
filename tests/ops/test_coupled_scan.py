"""coupled_scan is block_scan with an array for every entry: every method, values and gradients, with all flags."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import coupled_scan, reference

B, T, D, K = 2, 11, 5, 2


@cache
def problem():
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    A = tuple(tuple(0.5 * normal(B, T, D) for _ in range(K)) for _ in range(K))
    b, h0 = tuple(normal(B, T, D) for _ in range(K)), tuple(normal(B, D) for _ in range(K))
    return (A, b, h0), {"reset": rng.random((B, T)) < 0.2, "mask": rng.random((B, T)) < 0.8}


def together(h):
    return jnp.stack(h, axis=-1)


def exact(A, b, h0, reverse):
    matrices = jnp.stack([together(row) for row in A], axis=-2)
    return reference.block_scan(matrices, together(b), together(h0), **problem()[1], reverse=reverse)


@cache
def expected(reverse):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), problem()[0])
        return jax.jit(jax.value_and_grad(lambda *args: loss(exact(*args, reverse)), (0, 1, 2), has_aux=True))(*wide)


def loss(h):
    return jnp.sum(jnp.sin(h) * jnp.arange(1, T + 1)[:, None, None]), h


@pytest.mark.parametrize(
    ("method", "reverse"),
    [
        *((m, r) for m in ("sequential", "associative", "chunked") for r in (False, True)),
        *((m, False) for m in ("interpret:tpu", "interpret:gpu")),
    ],
)
def test_values_and_gradients_are_block_scan_s(method, reverse, close):
    args, flags = problem()

    def run(A, b, h0):
        return loss(together(coupled_scan(A, b, h0, **flags, reverse=reverse, method=method, chunk=4)))

    close(jax.jit(jax.value_and_grad(run, (0, 1, 2), has_aux=True))(*args), expected(reverse))


def test_a_state_that_does_not_move_has_no_derivative(close):
    (A, b, h0), flags = problem()
    run = lambda b0: together(coupled_scan(A, (b0, b[1]), h0, **flags))  # noqa: E731
    close(jax.grad(lambda x: loss(run(x))[0])(b[0]), expected(False)[1][1][0])


WRONG = {
    "A must have 2 rows of 2 arrays, as many as b, got [2]": lambda A, b: (A[:1], b),
    "A[0][1] must broadcast to b of shape (2, 11, 5) axis by axis, got shape (2, 3, 5)": lambda A, b: (
        ((A[0][0], A[0][1][:, :3]), A[1]),
        b,
    ),
    "b[1] must have shape (B T D) with T = 11, got (2, 10, 5)": lambda A, b: (A, (b[0], b[1][:, :10])),
    "A[1][0] must be float32 or wider": lambda A, b: ((A[0], (A[1][0].astype(jnp.bfloat16), A[1][1])), b),
    "b[0] must be real floating point, got dtype int32": lambda A, b: (A, (b[0].astype(np.int32), b[1])),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    (A, b, _), _ = problem()
    with pytest.raises(ValueError, match=re.escape(message)):
        coupled_scan(*WRONG[message](A, b))
