"""Where Newton's method does not converge by itself: the answer is right all the same, or it says that it is not."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.analysis.lyapunov import lyapunov_exponent
from jaxseq.cells import CELLS
from jaxseq.solvers import DampedNewton, Diagonal, FixedPoint, Newton, QuasiNewton, Sequential, Status, solve
from jaxseq.solvers.solution import largest
from tests.marks import slow_but

pytestmark = pytest.mark.usefixtures("optimised")  # near chaos every rounding shows
B, T, D = 2, 256, 8
run = jax.jit(solve, static_argnames=("cell", "solver"))


def hard(name, size=1.0, seed=0, time=T):
    """A cell, parameters and inputs of unit size; the recurrent weights are drawn, or changed, as the name says."""
    rng = np.random.default_rng(seed)
    kind, _, change = name.partition(":")
    options = (
        {} if kind in ("para_gru", "para_lstm") else {"recurrent": "dense" if change == "orthogonal" else "diagonal"}
    )
    cell = CELLS[kind](D, D, **options)
    params = dict(cell.init(jax.random.key(seed)))
    if change == "normal":
        params["a"] = jnp.asarray(rng.normal(size=params["a"].shape) * size, np.float32)
    if change == "orthogonal":
        params["r"] = jnp.asarray(np.linalg.qr(rng.normal(size=(D, D)))[0] * size, np.float32).reshape(
            params["r"].shape
        )
    if change == "forget":
        params["b"] = params["b"].at[cell.gates.index("f")].add(size)
    x = jnp.asarray(rng.normal(size=(B, time, D)), np.float32)
    return cell, params, cell.inputs(params, x)


HARD = [("para_gru:normal", 1.0), ("para_gru:normal", 2.0), ("para_gru:normal", 4.0), ("para_gru:normal", 8.0)]
HARD += [("elman:orthogonal", 1.5), ("lstm:forget", 3.0), ("slstm:forget", 4.0)]


def deviation(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.maximum(1, jnp.max(jnp.abs(b)))) for a, b in pairs)


@pytest.mark.parametrize(("name", "size"), slow_but(("lstm:forget", 3.0), HARD))
def test_the_result_is_the_sequential_one(name, size):
    cell, params, u = hard(name, size)
    exact, ours = (run(cell, params, u, solver=solver) for solver in (Sequential(), Newton()))
    assert bool(jnp.all(ours.converged))
    assert bool(jnp.all(ours.exact_prefix == T))
    assert deviation(ours.h, exact.h) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), HARD)
def test_at_two_thousand_steps_the_recurrence_is_solved_and_predictable_states_are_the_sequential_ones(name, size):
    cell, params, u = hard(name, size, time=2048)
    exact, ours = (run(cell, params, u, solver=solver) for solver in (Sequential(), Newton()))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(ours.h))
    assert bool(jnp.all(ours.converged))
    before = jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1], ours.h)
    residual = jax.tree.map(jnp.subtract, cell.step(params, before, u), ours.h)
    assert bool(jnp.all(largest(residual) <= 2e-6 * jnp.maximum(1, largest(ours.h))))
    if float(lyapunov_exponent(cell, params, u).max()) < 0:
        assert deviation(ours.h, exact.h) < 1e-4


@pytest.mark.parametrize("solver", slow_but(Newton, [Newton, QuasiNewton, DampedNewton, FixedPoint]))
@pytest.mark.parametrize("size", slow_but(8.0, [1.0, 8.0]))
def test_what_is_called_converged_has_a_small_residual(solver, size):
    cell, params, u = hard("para_gru:normal", size)
    solution = run(cell, params, u, solver=solver(max_iterations=12, on_failure="return"))
    before = jnp.pad(solution.h, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    true = np.asarray(jnp.max(jnp.abs(cell.step(params, before, u) - solution.h), axis=(1, 2)))
    for residual, status in zip(true, np.asarray(solution.status), strict=True):
        assert (status == Status.CONVERGED) == bool(residual <= 2e-6)
        assert status in (Status.CONVERGED, Status.STALLED, Status.DIVERGED)


@pytest.mark.slow
def test_some_of_them_are_stepped_through():
    cell, params, u = hard("para_gru:normal", 8.0)  # near chaos: from the first step on
    solution = run(cell, params, u)
    assert bool(jnp.all(solution.status == Status.FELL_BACK))
    np.testing.assert_array_equal(solution.h, run(cell, params, u, solver=Sequential("loop")).h)


@pytest.mark.slow
def test_rejected_steps_and_smaller_windows_solve_what_newton_does_not():
    cell, params, u = hard("para_gru:normal", 2.0, seed=1)
    alone, helped = (
        run(cell, params, u, solver=Newton(max_iterations=10, on_failure=f)) for f in ("return", "sequential")
    )
    np.testing.assert_array_equal(alone.converged, [True, False])
    np.testing.assert_array_equal(helped.status, [Status.CONVERGED] * B)
    assert deviation(helped.h, run(cell, params, u, solver=Sequential()).h) < 1e-5


@pytest.mark.parametrize("window", slow_but(7, [1, 7, 32, 300]))
def test_windows_are_exact_at_their_borders(window, close):
    cell, params, u = hard("para_gru:normal", 1.0)
    reset, mask = np.random.default_rng(1).random((2, B, T)) < [[[0.05]], [[0.9]]]
    flags = {"reset": jnp.asarray(reset), "mask": jnp.asarray(mask)}
    ours = run(cell, params, u, solver=Newton(window=window), **flags)
    assert bool(jnp.all(ours.converged))
    close(ours.h, run(cell, params, u, solver=Sequential(), **flags).h)


@pytest.mark.slow
def test_damping_takes_fewer_iterations_where_newton_overshoots():
    cell, params, u = hard("para_gru:normal", 3.0)
    newton, damped = (
        run(cell, params, u, solver=s(max_iterations=11, on_failure="return")) for s in (Newton, DampedNewton)
    )
    assert not bool(jnp.any(newton.converged))
    assert bool(jnp.all(damped.converged))
    assert deviation(damped.h, run(cell, params, u, solver=Sequential()).h) < 1e-5


def test_a_truncated_solve_reports_the_residual_it_leaves():
    cell, params, u = hard("para_gru:normal", 1.0)
    solution = run(cell, params, u, solver=Newton(max_iterations=2, on_failure="return"))
    np.testing.assert_array_equal(solution.status, [Status.STALLED] * B)
    assert bool(jnp.all(solution.residual > 1e-6))
    exact = run(cell, params, u, solver=Sequential()).h
    for row in range(B):
        prefix = int(solution.exact_prefix[row])
        assert 2 <= prefix < T
        np.testing.assert_allclose(solution.h[row, :prefix], exact[row, :prefix], atol=1e-5)


def test_raise_names_the_sequences():
    cell, params, u = hard("para_gru:normal", 8.0)
    with pytest.raises(FloatingPointError, match=r"sequences \[0, 1\] did not converge: residuals"):
        solve(cell, params, u, solver=Newton(max_iterations=3, on_failure="raise"))


@pytest.mark.slow
def test_a_cell_with_jacobians_far_above_one_does_not_report_success():
    cell = CELLS["gru"](D, D)
    params = jax.tree.map(lambda x: x, cell.init(jax.random.key(0)))
    params["r"] = params["r"] * 12
    u = cell.inputs(params, jax.random.normal(jax.random.key(1), (B, T, D)))
    solution = run(cell, params, u, solver=Newton(on_failure="return"))
    assert not bool(jnp.any(solution.converged))
    assert bool(jnp.all(run(cell, params, u).status == Status.FELL_BACK))


@pytest.mark.slow
def test_the_states_of_converged_rows_stay_as_they_are_when_others_are_rescued():
    cell, params, u = hard("para_gru:normal", 2.0, seed=1)
    alone, helped = (
        run(cell, params, u, solver=Newton(max_iterations=10, on_failure=f)) for f in ("return", "sequential")
    )
    np.testing.assert_array_equal(alone.converged, [True, False])
    np.testing.assert_array_equal(alone.h[0], helped.h[0])
    assert alone.iterations[0] == helped.iterations[0]


@dataclass(frozen=True)
class Chaos:
    """The logistic map: no two roundings agree after sixty steps."""

    structure = Diagonal()

    def init_state(self, batch):
        return jnp.full((batch, 1), 0.3)

    def step(self, params, h, u):
        return 4 * h * (1 - h) + u


@pytest.mark.slow
def test_chaos_is_stepped_through_and_its_growth_says_why():
    solution = run(Chaos(), (), jnp.zeros((1, 2048, 1)))
    np.testing.assert_array_equal(solution.status, [Status.FELL_BACK])
    np.testing.assert_allclose(solution.growth, np.log(2), atol=0.05)
