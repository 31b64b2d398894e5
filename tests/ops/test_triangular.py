"""unit_lower_solve against numpy's solve in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.triangular import unit_lower_solve

solve = jax.jit(unit_lower_solve)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact(L, R):
    return np.linalg.solve(np.eye(L.shape[-1]) - np.tril(L, -1).astype(np.float64), R.astype(np.float64))


def keys(kind, size):
    """Unit keys (8, C, K), the hardest for the delta rule: all the same, nearly so, or of both signs."""
    one, other = random(1, 8, 1, 16), random(2, 8, size, 16)
    k = {"identical": one + 0 * other, "near": one + 1e-3 * other, "signs": one * np.sign(other[..., :1])}.get(
        kind, other
    )
    return (k / np.linalg.norm(k, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("beta", [1.0, 1.9])
@pytest.mark.parametrize("kind", ["identical", "near", "signs", "random"])
def test_correlated_keys_do_not_explode(kind, beta, close):
    k = keys(kind, 64)
    L = np.tril(-beta * k @ np.swapaxes(k, -1, -2), -1).astype(np.float32)
    R = np.broadcast_to(np.eye(64, dtype=np.float32), L.shape)
    close(solve(L, R), exact(L, R))


@pytest.mark.parametrize("size", [1, 3, 8, 21])
def test_any_size_is_solved(size, close):
    L, R = random(3, 2, size, size) / 4, random(4, 2, size, 3)
    close(solve(L, R), exact(L, R))


def test_what_is_on_and_above_the_diagonal_is_not_read(close):
    L, R = random(3, 2, 8, 8), random(4, 2, 8, 3)
    close(solve(np.where(np.tri(8, k=-1, dtype=bool), L, np.nan), R), exact(L, R))


def test_derivatives_are_the_transposed_and_the_forward_solve(close):
    L, dL = random(3, 2, 11, 11) / 4, random(6, 2, 11, 11)
    R, g, dR = (random(seed, 2, 11, 3) for seed in (4, 5, 7))
    X = exact(L, R)
    lam = np.linalg.solve(np.swapaxes(np.eye(11) - np.tril(L, -1).astype(np.float64), -1, -2), g)
    both = jax.jit(lambda L, R: jax.vjp(unit_lower_solve, L, R)[1](jnp.asarray(g)))
    close(both(L, R), (np.tril(lam @ np.swapaxes(X, -1, -2), -1), lam))
    tangent = jax.jit(lambda *x: jax.jvp(unit_lower_solve, (L, R), x)[1])(dL, dR)
    close(tangent, exact(L, dR + np.tril(dL, -1) @ X))


@pytest.mark.parametrize(
    ("L", "R", "message"),
    [
        (
            np.ones((2, 4, 3), np.float32),
            np.ones((2, 4, 1), np.float32),
            "L must have shape (..., C, C), got (2, 4, 3)",
        ),
        (np.ones((2, 4, 4), np.float32), np.ones((4, 1), np.float32), "R must have shape (2, 4, 'V'), got (4, 1)"),
        (
            np.ones((4, 4), np.int32),
            np.ones((4, 1), np.float32),
            "L must be floating point or complex, got dtype int32",
        ),
    ],
)
def test_wrong_input_is_named(L, R, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        unit_lower_solve(L, R)
