"""What is compared computes the same; the demonstration shows it."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxseq.benchmark import demo
from jaxseq.benchmark.contenders import by_lax_scan, by_solver, compiled, with_gradients
from jaxseq.benchmark.solvers import _ratios
from jaxseq.cells import CELLS
from jaxseq.solvers import Sequential


def test_a_solver_and_autodiff_through_a_scan_compute_the_same(close):
    cell = CELLS["lstm"](4, 4, recurrent="diagonal")
    params = cell.init(jax.random.key(0))
    args = params, cell.inputs(params, jax.random.normal(jax.random.key(1), (2, 6, 4)))
    ours, theirs = (compiled(with_gradients(f), args)() for f in (by_solver(cell, Sequential()), by_lax_scan(cell)))
    close((ours[0].h, ours[1]), (theirs[0].h, theirs[1]))


def test_the_single_linear_scan_is_not_the_best_that_others_are_measured_by():
    times = {"lax_scan unroll=1": 4.0, "sequential": 2.0, "linear_scan": 1.0}
    assert _ratios("forward", times, "sequential") == {"forward_over_best": 1.0, "forward_over_lax_scan": 0.5}


def test_the_demonstration_has_every_cell_in_its_forms():
    labels = [label for name in CELLS for label, _ in demo.forms(name)]
    assert {"para_gru", "gru dense", "gru diagonal", "t_lstm"} <= set(labels)
    assert len(labels) == len(set(labels)) >= len(CELLS)


@pytest.mark.parametrize(("name", "shape"), [("para_gru", "diagonal"), ("para_lstm", "2 x 2"), ("gru", "dense")])
def test_a_jacobian_is_named_by_its_shape(name, shape):
    assert demo.shape_of(CELLS[name](4, 4).structure) == shape


def test_a_row_of_the_demonstration_says_what_came_out(monkeypatch):
    for name, value in (("TIME", 8), ("REPEATS", 1)):
        monkeypatch.setattr(demo, name, value)
    row = demo._row("min_gru", CELLS["min_gru"](4, 4)).split()
    assert row[:4] == ["min_gru", "diagonal", "1", "converged"]
    assert all(float(x) < 5e-6 for x in row[4:6])


def test_a_deviation_that_is_not_a_number_is_shown():
    assert np.isnan(demo.deviation([np.ones(2), np.array([1.0, np.nan])], [np.ones(2), np.ones(2)]))


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="got 'grue'"):
        list(demo.demo("gru,grue"))


def test_harder_problems_have_larger_recurrent_weights():
    gru, para_gru = CELLS["gru"](4, 4), CELLS["para_gru"](4, 4)
    usual, hard = (demo.problem(gru, size)[0]["r"] for size in (None, 12.0))
    np.testing.assert_allclose(hard, 12 * usual)
    assert float(np.std(demo.problem(replace(para_gru, d_input=32, d_state=32), 8.0)[0]["a"])) == pytest.approx(8, 0.2)
