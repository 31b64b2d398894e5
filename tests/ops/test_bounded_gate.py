"""Bounded gates against their definition in float64, where they saturate too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops.bounded_gate import bounded_gate, bounds_by_depth, log_bounded_gate

Z = np.array([-300.0, -100.0, -40.0, -3.0, 0.0, 2.0, 40.0, 300.0])


@pytest.mark.parametrize("bound", [0.0, 0.3, 0.999])
def test_gates_are_the_definition_s(bound, close):
    f = bound + (1 - bound) / (1 + np.exp(-Z))
    new = (1 - bound) / (1 + np.exp(Z))
    log_f = np.log(f) if bound else np.minimum(Z, 0) - np.log1p(np.exp(-np.abs(Z)))
    z = jnp.asarray(Z, jnp.float32)
    for value, expected in zip((*bounded_gate(z, bound), log_bounded_gate(z, bound)[0]), (f, new, log_f), strict=True):
        np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-6 if expected is log_f else 1e-30)


def test_derivatives_of_saturated_gates_are_finite():
    gates = jax.vmap(jax.grad(lambda z, bound: log_bounded_gate(z, bound)[0], argnums=(0, 1)))
    for bound in (0.0, 0.3):
        found = gates(jnp.asarray(Z, jnp.float32), jnp.full(len(Z), bound))
        assert bool(jnp.all(jnp.isfinite(jnp.stack(found))))
        slope = (1 - bound) / (1 + np.exp(Z)) / (1 + bound * np.exp(-Z))  # d log f / dz
        np.testing.assert_allclose(found[0], slope, rtol=1e-5, atol=1e-7)


def test_bounds_grow_with_depth_from_zero_and_stay_below_one(close):
    table = np.random.default_rng(0).normal(size=(5, 3))
    bounds = bounds_by_depth(jnp.asarray(table, jnp.float32))
    shares = np.exp(table) / np.exp(table).sum(axis=0)
    close(bounds, np.stack([shares[1 : i + 1].sum(axis=0) for i in range(5)]))
    assert np.all(bounds[0] == 0)
    assert np.all(bounds[-1] < 1)
