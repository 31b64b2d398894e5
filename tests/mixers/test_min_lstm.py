"""minLSTM against the paper's two forms, one step after another in float64, its first gates, and its sizes."""

import jax
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.min_lstm import MinLSTM
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, E = 16, 24


def definition(params, x, form):
    """y (T, D) of one row x (T, D)."""
    p = wide(params)
    padded = np.concatenate([np.zeros((3, D)), x])
    h, y = np.full(E, 0.5 if form == "log" else 0.0), []
    for t in range(len(x)):
        u = x[t] + p["conv_b"] + sum(p["conv_w"][i] * padded[t + i] for i in range(4))
        f, i = expit(u @ p["w_f"] + p["b_f"]), expit(u @ p["w_i"] + p["b_i"])
        c = u @ p["w_h"] + p["b_h"]
        if form == "log":
            c = np.array([v + 0.5 if v >= 0 else expit(v) for v in c])
        h = f / (f + i) * h + i / (f + i) * c
        y.append(h @ p["w_o"] + p["b_o"])
    return np.stack(y)


@pytest.mark.parametrize("form", ["log", "plain"])
def test_values_are_the_definition_s(form, close):
    mixer, x = MinLSTM(D, inner=E, form=form), inputs(D)
    params = drawn(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(params, row.astype(np.float64), form) for row in x]))


def test_the_forget_gate_starts_at_its_bias():
    mixer = MinLSTM(D, forget_bias=2.0)
    params = initial(mixer)
    np.testing.assert_array_equal(params["b_f"], np.full(D, 2.0))
    np.testing.assert_array_equal(params["b_i"], np.zeros(D))


def test_sizes_are_those_stated():
    mixer = MinLSTM(D, inner=E)
    assert count(mixer) == 4 * D * E + 3 * E + D + (4 + 1) * D
    assert state_bytes(mixer) == 4 * E + 4 * 3 * D
