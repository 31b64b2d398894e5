"""check_cell: passes for every cell of ours, and fails for a cell that is not what it claims."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from jaxseq.cells import CELLS, Cell
from jaxseq.solvers import check_cell
from tests.marks import slow_but


@pytest.mark.parametrize("name", slow_but("para_gru", ["para_gru", "lstm"]))
def test_a_cell_of_ours_is_what_it_claims(name):
    deviations = check_cell(CELLS[name](8, 8, heads=2))
    assert set(deviations) == {"structure", "newton", "sequential", "gradients"}
    assert max(deviations.values()) < 1e-3


@dataclass(frozen=True)
class Elementwise(Cell):
    """An honest cell."""

    mixing: float = 0.0

    def init(self, key):
        return {"r": jnp.eye(self.d_state) + self.mixing * jax.random.normal(key, (self.d_state, self.d_state))}

    def inputs(self, params, x):
        return x

    def step(self, params, h, u):
        return jnp.tanh(0.5 * h @ params["r"] + u)


def test_an_honest_cell_passes():
    check_cell(Elementwise(8, 8))


@pytest.mark.parametrize("mixing", [0.1, 3.0])
def test_a_cell_that_mixes_channels_while_claiming_not_to_is_found_out(mixing):
    with pytest.raises(ValueError, match="Elementwise fails the structure check: relative deviation"):
        check_cell(Elementwise(8, 8, mixing=mixing))


@dataclass(frozen=True)
class Wrong(Elementwise):
    """A cell with a derivative that is not that of its step."""

    def step(self, params, h, u):
        return h * 0.5 + jnp.tanh(jax.lax.stop_gradient(params["r"][0] * h) + u)


def test_a_cell_with_a_derivative_that_is_cut_is_solved_all_the_same():
    check_cell(Wrong(8, 8))


class Exploding(Elementwise):
    """A step that is infinite where it should be one."""

    def step(self, params, h, u):
        return u / jnp.maximum(h, 0)


def test_a_cell_with_values_that_are_not_finite_is_reported():
    with pytest.raises(ValueError, match=r"Exploding.step returns values that are not finite for finite inputs"):
        check_cell(Exploding(8, 8))
