"""S5 against its equations in complex128, its irregular steps, and its first eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import expit

from jaxseq.mixers.s5 import ACTIVATIONS, S5, hippo_normal
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, P = 16, 12


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def weights(mixer):
    """Random, but for eigenvalues and steps, which are the first ones, so that the state lasts."""
    return drawn(mixer) | {name: initial(mixer)[name] for name in ("lambda_re", "lambda_im", "log_step")}


def definition(params, x, mixer, dt):
    """y (T, D) of one row x (T, D), of all P states: each pair is written out as a 2 x 2 real system."""
    p = wide(params)
    w_in, w_out = (p[name][0] + 1j * p[name][1] for name in ("b", "c"))
    y = np.array(p["d"] * x)
    for n in range(w_in.shape[1]):
        turn = np.array([[p["lambda_re"][n], -p["lambda_im"][n]], [p["lambda_im"][n], p["lambda_re"][n]]])
        enters = np.stack([w_in[:, n].real, w_in[:, n].imag])
        h = np.zeros(2)
        for t in range(len(x)):
            step = np.exp(p["log_step"][n]) * dt[t]
            if mixer.discretization == "zoh":
                a = expm(turn * step)
                gain = np.linalg.solve(turn, a - np.eye(2))
            else:
                left = np.linalg.inv(np.eye(2) - turn * step / 2)
                a, gain = left @ (np.eye(2) + turn * step / 2), step * left
            h = a @ h + gain @ enters @ x[t]
            y[t] += 2 * (h[0] * w_out[n].real - h[1] * w_out[n].imag)
    return activated(p, y, mixer.activation)


def activated(p, y, activation):
    u = gelu(y)
    gate = expit(u @ p["w_gate"] + p["b_gate"])
    value = {"full_glu": lambda: u @ p["w_value"] + p["b_value"], "half_glu1": lambda: u, "half_glu2": lambda: y}
    return value[activation]() * gate


@pytest.mark.parametrize(
    ("discretization", "activation"),
    [("zoh", "full_glu"), ("bilinear", "half_glu1"), ("bilinear", "half_glu2")],
)
def test_values_are_the_definition_s(discretization, activation, close):
    mixer, x = S5(D, states=P, discretization=discretization, activation=activation), inputs(D)
    params = weights(mixer)
    dt = np.random.default_rng(2).uniform(0.2, 30, size=x.shape[:2]).astype(np.float32)
    y, _ = jax.jit(mixer.apply)({"params": params}, x, dt=dt)
    close(y, np.stack([definition(params, *row, mixer, t) for *row, t in zip(x.astype(np.float64), dt, strict=True)]))


def test_regular_steps_are_steps_of_one(close):
    mixer, x = S5(D, states=P), inputs(D)
    run, variables = jax.jit(mixer.apply), {"params": weights(mixer)}
    close(run(variables, x)[0], run(variables, x, dt=jnp.ones(x.shape[:2]))[0])


def test_one_long_step_is_two_short_ones_without_input_between(close):
    """What irregular sampling means: the state at a time does not depend on how often it is looked at."""
    mixer, x = S5(D, states=P), inputs(D)
    run, variables = jax.jit(mixer.apply), {"params": weights(mixer)}
    x[:, -2] = 0
    short = np.ones(x.shape[:2], np.float32)
    _, often = run(variables, x, dt=short)
    _, before = run(variables, x[:, :-2], dt=short[:, :-2])
    _, driven = run(variables, x[:, -1:], dt=short[:, -1:])
    _, still = run(variables, 0 * x[:, -1:], dt=2 * short[:, -1:], state=before)
    close(often["h"], np.asarray(still["h"]) + driven["h"])


def test_eigenvalues_start_as_those_of_hippo_s_normal_part():
    n = 12
    row, column = np.mgrid[:n, :n]
    hippo = -np.where(row > column, np.sqrt((2 * row + 1.0) * (2 * column + 1)), np.where(row == column, row + 1, 0))
    p = np.sqrt(np.arange(n) + 0.5)
    omega, basis = hippo_normal(n)
    assert np.all(omega < 0)
    np.testing.assert_allclose((hippo + np.outer(p, p)) @ basis, basis * (-0.5 + 1j * omega), atol=1e-12)
    params = initial(S5(D, states=24, blocks=2))
    np.testing.assert_allclose(params["lambda_im"], np.tile(omega, 2), rtol=1e-6)
    np.testing.assert_array_equal(params["lambda_re"], np.full(12, -0.5, np.float32))


def test_steps_and_maps_start_in_their_ranges():
    params = initial(S5(32, states=64, dt_min=1e-2, dt_max=1e-1))
    assert np.log(1e-2) <= params["log_step"].min() < np.log(1.4e-2)
    assert np.log(0.8e-1) < params["log_step"].max() <= np.log(1e-1)
    np.testing.assert_allclose(np.sqrt(2 * np.mean(params["b"] ** 2)), 64**-0.5, rtol=0.05)  # V is unitary
    np.testing.assert_allclose(np.sqrt(np.mean(params["c"] ** 2)), 64**-0.5, rtol=0.05)


def test_clipped_eigenvalues_do_not_grow():
    mixer = S5(D, states=P, clip_eigs=True, activation="gelu")
    params = weights(mixer) | {"lambda_re": np.full(P // 2, 3.0, np.float32)}
    state = {"h": jnp.ones((1, P // 2), jnp.complex64)}
    _, state = jax.jit(mixer.apply)({"params": params}, np.zeros((1, 21, D), np.float32), state=state)
    step = np.exp(params["log_step"])
    np.testing.assert_allclose(np.abs(state["h"][0]), np.exp(-1e-4 * step * 21), rtol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sizes_are_those_stated(activation):
    gate = {"full_glu": 2, "half_glu1": 1, "half_glu2": 1, "gelu": 0}[activation]
    mixer = S5(D, states=P, activation=activation)
    assert count(mixer) == 2 * P * D + 3 * P // 2 + D + gate * (D**2 + D)
    assert state_bytes(mixer) == 8 * P // 2


def test_a_dt_of_another_shape_is_refused():
    mixer = S5(D, states=P)
    with pytest.raises(ValueError, match=r"dt must have shape \(B T\)"):
        jax.eval_shape(mixer.apply, {"params": weights(mixer)}, inputs(D), dt=jnp.ones((2, 21, 1)))
