"""The largest Lyapunov exponent, where it has a closed form."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.analysis.lyapunov import lyapunov_exponent
from jaxseq.cells import CELLS

T = 4000


class Linear:
    """h' = A h + u."""

    def __init__(self, states):
        self.states = states

    def init_state(self, batch):
        return jnp.zeros((batch, self.states))

    def step(self, params, h, u):
        return h @ params.T + u


@dataclass(frozen=True)
class Logistic:
    """h' = 4 h (1 - h), chaotic on [0, 1] with exponent log 2."""

    def init_state(self, batch):
        return jnp.full((batch, 1), 0.3)

    def step(self, params, h, u):
        return 4 * h * (1 - h) + 0 * u


@pytest.mark.parametrize("a", [0.5, -0.9, 1.1])
def test_of_one_linear_state_it_is_the_log_of_its_factor(a, close):
    u = jnp.zeros((2, 100, 1))
    found = jax.jit(lambda a, u: lyapunov_exponent(Linear(1), a, u))(jnp.full((1, 1), a), u)
    close(found, np.full(2, np.log(abs(a))))


def test_of_linear_states_that_mix_it_is_the_log_of_the_spectral_radius():
    a = jnp.array([[0.5, 2.0], [0.0, 0.8]])
    found = jax.jit(lambda a, u: lyapunov_exponent(Linear(2), a, u))(a, jnp.zeros((1, T, 2)))
    assert float(found[0]) == pytest.approx(np.log(0.8), abs=10 / T)  # the start is forgotten like 1 / T


def test_of_the_logistic_map_it_is_log_2():
    with jax.enable_x64(True):
        u = jnp.zeros((1, T, 1), np.float64)
        found = jax.jit(lambda u: lyapunov_exponent(Logistic(), None, u, jnp.full((1, 1), 0.3, np.float64)))(u)
        assert found.dtype == np.float64
    assert float(found[0]) == pytest.approx(np.log(2), abs=10 / T)


def test_rows_are_apart_and_states_may_be_tuples():
    cell = CELLS["lstm"](4, 4)
    params = cell.init(jax.random.key(0))
    u = cell.inputs(params, jax.random.normal(jax.random.key(1), (2, 50, 4)))
    poisoned = jax.tree.map(lambda x: x.at[1, 20].set(jnp.nan), u)
    run = jax.jit(lambda u: lyapunov_exponent(cell, params, u))
    clean, found = run(u), run(poisoned)
    assert found[0] == clean[0] < 0
    assert np.isnan(found[1])


def test_a_tangent_that_vanishes_has_minus_infinity():
    found = lyapunov_exponent(Linear(1), jnp.zeros((1, 1)), jnp.ones((1, 3, 1)))
    assert found[0] == -np.inf


def test_inputs_without_time_are_refused():
    with pytest.raises(ValueError, match="u must have leaves of shape"):
        lyapunov_exponent(Linear(1), jnp.zeros((1, 1)), jnp.zeros(3))
