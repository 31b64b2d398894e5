"""Longhorn against its step, one channel and one token after another in float64, and its sizes."""

import jax
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.longhorn import Longhorn
from tests.mixers.oracle import assert_near, inputs, stepped
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, E, N, R = 16, 12, 5, 3


def definition(params, x):
    """y (T, D) of one row x (T, D): the regression's closed form, its matrix cut down to the diagonal."""
    p = wide(params)
    before = np.zeros((4, E))  # the convolution's inputs, the newest last
    S, y = np.zeros((E, N)), []
    for token in x:
        before = np.vstack([before[1:], token @ p["w_x"]])
        u = np.array([before[:, e] @ p["conv_w"][:, e] + p["conv_b"][e] for e in range(E)])
        u = u * expit(u)
        selected = u @ p["w_select"]
        r, k, q = selected[:R], selected[R : R + N], selected[R + N :]
        beta = expit(r @ p["w_beta"] + p["b_beta"])
        for e in range(E):
            # (I + β k kᵀ)⁻¹ = I - ε k kᵀ
            inverse = np.linalg.inv(np.eye(N) + beta[e] * np.outer(k, k))
            S[e] = np.diag(inverse) * S[e] + beta[e] * u[e] * (inverse @ k)
        gate = token @ p["w_z"]
        y.append(((S @ q + p["d"] * u) * gate * expit(gate)) @ p["w_o"])
    return np.stack(y)


@pytest.fixture(scope="module")
def case():
    """Our mixer, its variables, x, and what the definition makes of x."""
    mixer, x = Longhorn(D, inner=E, states=N, beta_rank=R), inputs(D)
    params = drawn(mixer)
    return mixer, {"params": params}, x, np.stack([definition(params, row.astype(np.float64)) for row in x])


def test_values_are_the_definition_s(case, close):
    mixer, variables, x, wanted = case
    close(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_definition_s(case):
    mixer, variables, x, wanted = case
    assert_near(stepped(mixer, variables, x), wanted)


def test_half_of_the_answer_is_believed_at_first():
    np.testing.assert_array_equal(initial(Longhorn(D))["b_beta"], np.zeros(2 * D))  # σ(0) = 1/2


def test_sizes_are_those_of_the_120m_model():
    mixer = Longhorn(768)
    width, inner, rank, states, taps = 768, 1536, 48, 16, 4
    assert count(mixer) == inner * (3 * width + 2 * rank + 2 * states + taps + 3)
    assert mixer.init_state(1)["h"].size == 24_576
    assert state_bytes(mixer) == 116_736
