"""HGRN against its equations, one step and channel after another, and its bounds over depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.base import Depth
from jaxseq.mixers.hgrn import HGRN
from jaxseq.ops.bounded_gate import bounds_by_depth
from tests.mixers.oracle import inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, E = 16, 6


def silu(x):
    return x * expit(x)


def complex_definition(p, x, bound):
    """y (T, D) of one row x (T, D); a complex channel is turned as a plane."""
    h, y = np.zeros((E, 2)), []
    for u in x:
        f = bound + (1 - bound) * expit(u @ p["w_f"] + p["b_f"])
        c = np.stack([silu(u @ p["w_re"] + p["b_re"]), silu(u @ p["w_im"] + p["b_im"])], axis=1)
        for e, angle in enumerate(p["theta"]):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            h[e] = f[e] * turn @ h[e] + (1 - f[e]) * c[e]
        flat = np.concatenate([h[:, 0], h[:, 1]])
        normed = (flat - flat.mean()) / np.sqrt(flat.var() + 1e-5) * p["norm"] + p["norm_b"]
        y.append((normed * silu(u @ p["w_g"] + p["b_g"])) @ p["w_o"] + p["b_o"])
    return np.stack(y)


def real_definition(p, x, bound):
    h, y = np.zeros(E), []
    for u in x:
        f = bound + (1 - bound) * expit(u @ p["w_f"])
        h = f * h + (1 - f) * silu(u @ p["w_i"])
        normed = h / np.sqrt(np.mean(h**2) + 1e-6) * p["norm"]
        y.append((normed * silu(u @ p["w_g"])) @ p["w_o"])
    return np.stack(y)


@pytest.mark.parametrize(("form", "definition"), [("complex", complex_definition), ("real", real_definition)])
def test_values_are_the_definition_s(form, definition, close):
    mixer, x = HGRN(D, inner=E, form=form), inputs(D)
    params, bound = drawn(mixer), np.linspace(0.1, 0.95, E)
    depth = Depth(jnp.int32(1), 3, jnp.asarray(bound, jnp.float32))
    y, _, first = jax.jit(lambda x: mixer.apply({"params": params}, x, depth=depth))(x)
    close(y, np.stack([definition(wide(params), row, bound) for row in x.astype(np.float64)]))
    assert first is None


def test_without_a_place_the_bound_is_zero(close):
    mixer, x = HGRN(D, inner=E, form="real"), inputs(D)
    params = drawn(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([real_definition(wide(params), row, 0) for row in x.astype(np.float64)]))


def test_a_layer_s_row_is_its_bound(close):
    table = jnp.asarray(np.random.default_rng(0).normal(size=(5, E)), jnp.float32)
    close(HGRN(D, inner=E).rows(table), bounds_by_depth(table))


def test_phases_start_as_positions_do(close):
    close(initial(HGRN(D, inner=E))["theta"], [10000 ** (-2 * e / E) for e in range(E)])


@pytest.mark.parametrize(("form", "expected"), [("complex", 7 * D * E + 10 * E + D), ("real", 4 * D * E + E)])
def test_sizes_are_those_stated(form, expected):
    mixer = HGRN(D, inner=E, form=form)
    assert count(mixer) == expected
    assert state_bytes(mixer) == {"complex": 8, "real": 4}[form] * E
    assert mixer.table_width() == E
