"""The norms against their formulas in float64, and against torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxseq.ops import layer_norm, rms_norm
from jaxseq.ops.norm import l2_norm, unit_norm


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.bfloat16).astype(np.float32)


X, SCALE, G = random(0, 2, 3, 8), random(1, 8), random(2, 2, 3, 8)


def formula(x, scale, eps=1e-6):
    x = x.astype(np.float64)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * scale


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [1.0, 2.0**-10, 2.0**10])
def test_values_are_the_formula_s_in_the_dtype_of_x(dtype, size, close):
    y = rms_norm(jnp.asarray(size * X, dtype), jnp.asarray(SCALE))
    assert y.dtype == dtype
    close(y, formula(size * X, SCALE), dtype)


def test_float64_is_not_rounded(close):
    with jax.enable_x64(True):
        close(rms_norm(jnp.asarray(X, np.float64), jnp.asarray(SCALE)), formula(X, SCALE), "float64")


def test_without_a_scale_it_is_a_scale_of_one(close):
    close(rms_norm(jnp.asarray(X)), formula(X, np.ones(8)))


def test_eps_is_inside_the_root(close):
    close(rms_norm(jnp.asarray(X), eps=0.5), formula(X, np.ones(8), 0.5))


def test_gradients_are_finite_differences_of_the_formula(close):
    gradient = jax.vjp(rms_norm, jnp.asarray(X), jnp.asarray(SCALE))[1](jnp.asarray(G))

    def difference(f, at):
        at, slope = at.astype(np.float64), np.zeros(at.shape)
        for i in np.ndindex(*at.shape):
            step = np.zeros(at.shape)
            step[i] = 1e-6
            slope[i] = np.sum(G * (f(at + step) - f(at - step))) / 2e-6
        return slope

    close(gradient, (difference(partial(formula, scale=SCALE), X), difference(partial(formula, X), SCALE)))


def test_rows_of_zeros_have_finite_values_and_gradients():
    y, pull = jax.vjp(rms_norm, jnp.zeros((2, 8)), jnp.ones(8))
    assert bool(jnp.all(y == 0))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in pull(jnp.ones((2, 8))))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_l2_norm_has_eps_in_the_sum_and_unit_norm_has_none(dtype, close):
    wide = (2.0**-10 * X).astype(np.float64)
    square = np.sum(wide * wide, axis=-1, keepdims=True)
    values = l2_norm(jnp.asarray(wide, dtype)), unit_norm(jnp.asarray(wide, dtype))
    assert {y.dtype for y in values} == {jnp.dtype(dtype)}
    close(values, (wide / np.sqrt(square + 1e-6), wide / np.sqrt(square)), dtype)


def test_the_gradient_of_unit_norm_is_orthogonal_to_x(close):
    wide = X.astype(np.float64)
    size = np.linalg.norm(wide, axis=-1, keepdims=True)
    along = np.sum(G * wide, axis=-1, keepdims=True) * wide / size**2
    close(jax.vjp(unit_norm, jnp.asarray(X))[1](jnp.asarray(G))[0], (G - along) / size)


@pytest.mark.parametrize("norm", [l2_norm, unit_norm])
def test_a_row_of_zeros_has_no_direction_and_a_finite_gradient(norm):
    y, pull = jax.vjp(norm, jnp.zeros((2, 8)))
    assert bool(jnp.all(y == 0))
    assert bool(jnp.all(jnp.isfinite(pull(jnp.ones((2, 8)))[0])))


def test_layer_norm_is_torch_s(close):
    x, scale, bias = random(0, 3, 5), random(1, 5), random(2, 5)
    expected = torch.nn.functional.layer_norm(*map(torch.from_numpy, (x,)), (5,), *map(torch.from_numpy, (scale, bias)))
    close(layer_norm(x, scale, bias), expected.numpy())
