"""minGRU against the paper's two forms, one step after another in float64, and its sizes."""

import jax
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.min_gru import MinGRU
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, shapes, state_bytes, wide

D, E = 16, 24


def definition(params, x, form):
    """y (T, D) of one row x (T, D)."""
    p = wide(params)
    padded = np.concatenate([np.zeros((3, D)), x])
    h, y = np.full(E, 0.5 if form == "log" else 0.0), []
    for t in range(len(x)):
        u = x[t] + p["conv_b"] + sum(p["conv_w"][i] * padded[t + i] for i in range(4))
        z, c = expit(u @ p["w_z"] + p["b_z"]), u @ p["w_h"] + p["b_h"]
        if form == "log":
            c = np.array([v + 0.5 if v >= 0 else expit(v) for v in c])
        h = (1 - z) * h + z * c
        y.append(h @ p["w_o"] + p["b_o"])
    return np.stack(y)


@pytest.mark.parametrize("form", ["log", "plain"])
def test_values_are_the_definition_s(form, close):
    mixer, x = MinGRU(D, inner=E, form=form), inputs(D)
    params = drawn(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(params, row.astype(np.float64), form) for row in x]))


def test_without_a_convolution_there_is_no_state_of_one():
    mixer = MinGRU(D, conv_width=0)
    assert set(shapes(mixer)) == {"w_z", "b_z", "w_h", "b_h", "w_o", "b_o"}
    assert set(mixer.init_state(1)) == {"h"}


def test_sizes_are_those_stated():
    mixer = MinGRU(D, inner=E)
    assert count(mixer) == 3 * D * E + 2 * E + D + (4 + 1) * D
    assert state_bytes(mixer) == 4 * E + 4 * 3 * D
