"""S4D against its convolution kernel in complex128, its first matrices, and its sizes."""

import jax
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.s4d import S4D, first_a
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, N = 16, 6


def weights(mixer):
    """Random, but for A and the steps, which are the first ones, so that the state lasts."""
    return drawn(mixer) | {name: initial(mixer)[name] for name in ("log_a_re", "a_im", "log_step")}


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def definition(params, x):
    """Output (T, D) of one row x (T, D), by a convolution with K_l = 2 Re(Σ_n C_n (e^{A_nΔ} - 1) / A_n e^{A_nΔl})."""
    p, y = wide(params), np.zeros_like(x)
    for d in range(D):
        a, step = -np.exp(p["log_a_re"][d]) + 1j * p["a_im"][d], np.exp(p["log_step"][d])
        c = (p["c"][0, d] + 1j * p["c"][1, d]) * (np.exp(a * step) - 1) / a
        kernel = [2 * np.sum(c * np.exp(a * step * lag)).real for lag in range(len(x))]
        y[:, d] = np.convolve(x[:, d], kernel)[: len(x)] + p["d"][d] * x[:, d]
    u = gelu(y)
    return (u @ p["w_value"] + p["b_value"]) * expit(u @ p["w_gate"] + p["b_gate"])


@pytest.mark.parametrize("init", ["lin", "inv"])
def test_values_are_the_convolution_s(init, close):
    mixer, x = S4D(D, states=N, init_a=init, chunk=5, dt_min=0.1, dt_max=0.5), inputs(D)
    params = weights(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(params, row) for row in x.astype(np.float64)]))


def test_the_first_matrices_are_the_paper_s():
    np.testing.assert_allclose(first_a("lin", 6), [[-0.5, -0.5, -0.5], [0, np.pi, 2 * np.pi]])
    np.testing.assert_allclose(first_a("inv", 6), [[-0.5, -0.5, -0.5], [30 / np.pi, 6 / np.pi, 1.2 / np.pi]])
    np.testing.assert_array_equal(first_a("real", 6), [[-1, -2, -3], [0, 0, 0]])
    params = initial(S4D(64, states=64, init_a="real", dt_min=1e-2))
    np.testing.assert_allclose(-np.exp(params["log_a_re"]), np.tile(-1.0 - np.arange(32), (64, 1)), rtol=1e-6)
    np.testing.assert_array_equal(params["a_im"], np.zeros((64, 32)))
    np.testing.assert_allclose(np.mean(params["c"] ** 2), 0.5, rtol=0.1)
    assert np.log(1e-2) <= params["log_step"].min() < params["log_step"].max() <= np.log(1e-1)


def test_sizes_are_those_stated():
    mixer = S4D(D, states=N)
    assert count(mixer) == 2 * D * N + 2 * D + 2 * (D**2 + D)
    assert state_bytes(mixer) == 8 * D * N // 2
