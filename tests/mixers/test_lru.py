"""The LRU against its equations, one step after another in complex128."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from scipy.special import expit

from jaxseq.mixers.lru import LRU

B, T, D, N = 2, 20, 6, 10


@pytest.fixture(scope="module")
def params():
    return meta.unbox(jax.jit(LRU(D, states=N).init)(jax.random.key(0), jnp.zeros((1, 1, D))))["params"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def definition(params, x, h):
    """y (T, D) and the last state of one row x (T, D) from the state h (N,)."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    decay = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    w_in, w_out = (p[name][0] + 1j * p[name][1] for name in ("w_in", "w_out"))
    y = np.zeros_like(x)
    for t in range(len(x)):
        h = decay * h + np.exp(p["gamma_log"]) * (x[t] @ w_in)
        y[t] = gelu((h @ w_out).real + p["d"] * x[t])
    return (y @ p["w_value"]) * expit(y @ p["w_gate"]), h


def test_values_are_the_definition_s(params, close):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, D))
    h = rng.normal(size=(B, N)) + 1j * rng.normal(size=(B, N))
    state = {"h": jnp.asarray(h, jnp.complex64)}
    y, state = jax.jit(LRU(D, states=N).apply)({"params": params}, jnp.asarray(x, np.float32), state=state)
    wanted = [definition(params, *row) for row in zip(x, h, strict=True)]
    close((y, state["h"]), tuple(np.stack(part) for part in zip(*wanted, strict=True)))


@pytest.mark.parametrize("shift", [-8.0, 0.0, 8.0])
def test_decays_are_inside_the_unit_circle_whatever_the_parameters(params, shift):
    decay = np.exp(-np.exp(np.asarray(params["nu_log"], np.float64) + shift))
    assert np.all((decay > 0) & (decay < 1) if shift < 8 else decay < 1)


def test_radii_and_phases_are_in_the_ranges_given():
    mixer = LRU(D, states=2000, min_radius=0.5, max_radius=0.8, max_phase=0.3)
    params = meta.unbox(jax.jit(mixer.init)(jax.random.key(0), jnp.zeros((1, 1, D))))["params"]
    square = np.exp(-2 * np.exp(params["nu_log"]))
    assert 0.25 - 1e-6 <= square.min() < 0.26
    assert 0.63 < square.max() <= 0.64 + 1e-6
    np.testing.assert_allclose(square.mean(), (0.25 + 0.64) / 2, atol=0.01)  # uniform in the square
    phase = np.exp(params["theta_log"])
    assert 0 < phase.min() < 0.01
    assert 0.29 < phase.max() <= 0.3 + 1e-6


def test_gamma_keeps_the_state_at_the_size_of_the_input(params, close):
    square = np.exp(-2 * np.exp(np.asarray(params["nu_log"], np.float64)))
    close(np.exp(params["gamma_log"]), np.sqrt(1 - square))
