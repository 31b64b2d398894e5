"""The acceptance tests find the defects that other libraries have had, when they are planted here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.ops import reference
from jaxseq.solvers import Newton, QuasiNewton, Sequential, iterate, newton, solution, solve, tangent
from jaxseq.solvers.iterate import Certificate

B, T, D = 2, 24, 4


def problem(name="para_gru"):
    cell = CELLS[name](D, D)
    params = cell.init(jax.random.key(0))
    return cell, params, cell.inputs(params, jax.random.normal(jax.random.key(1), (B, T, D)))


def gradients_are_exact():
    cell, params, u = problem("gru")

    def exact(p):
        return jnp.sum(jnp.sin(reference.recurrence(lambda h, x: cell.step(p, h, x), u, cell.init_state(B))))

    ours = jax.grad(lambda p: jnp.sum(jnp.sin(solve(cell, p, u, solver=QuasiNewton(max_iterations=60)).h)))(params)
    theirs = jax.grad(exact)(params)
    return bool(jnp.allclose(ours["r"], theirs["r"], rtol=1e-3, atol=1e-4))


def a_bad_row_is_reported():
    cell, params, u = problem()
    u = jax.tree.map(lambda x: x.at[1, 5, 0].set(jnp.nan), u)
    solved = solve(cell, params, u, solver=Newton(on_failure="return"))
    return [bool(x) for x in solved.converged] == [True, False]


def what_is_called_converged_solves_the_recurrence():
    cell, params, u = problem()
    hard = dict(params, a=12 * jnp.asarray(np.random.default_rng(0).normal(size=(3, D)), np.float32))
    solved = solve(cell, hard, u, solver=Newton(max_iterations=2, on_failure="return"))
    before = jnp.pad(solved.h, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    true = jnp.max(jnp.abs(cell.step(hard, before, u) - solved.h), axis=(1, 2))
    return not bool(jnp.any(solved.converged & ~(true < 1e-3)))


def modes_agree():
    cell, params, u = problem()
    modes = (Sequential(), Newton(), Newton(window=7))
    states = [solve(cell, params, u, solver=mode).h for mode in modes]
    return all(bool(jnp.max(jnp.abs(h - states[0])) < 2e-6) for h in states)


def quasi_adjoint(monkeypatch):
    """The backward pass with the diagonal of the Jacobian, as in the released quasi-DEER."""
    true = tangent.linearise

    def diagonal_only(*args):
        force, jac = true(*args)
        return force, jac * jnp.eye(jac.shape[-1])

    monkeypatch.setattr(tangent, "linearise", diagonal_only)


def maximum_that_drops_nan(monkeypatch):
    """max |x| where NaN does not count, which is what XLA:CPU makes of it at some shapes."""
    monkeypatch.setattr(solution, "_largest", lambda x, axes: jnp.nanmax(jnp.abs(x), axis=tuple(range(axes, x.ndim))))
    monkeypatch.setattr(iterate, "threshold", lambda tolerance, h: tolerance * jnp.ones(jax.tree.leaves(h)[0].shape[0]))


def success_by_the_last_step(monkeypatch):
    """Converged because the budget was not used up or the last increment was small, whatever the residual."""

    def careless(progress, tolerance):
        found = iterate.certify(progress, tolerance)
        return Certificate(found.iterations, found.residual, found.exact_prefix, 0 * found.status)

    monkeypatch.setattr(newton, "certify", careless)


def windows_that_start_from_zero(monkeypatch):
    """Windows whose carry is lost, so that windowed and whole solves differ."""
    true = newton.in_windows

    def broken(run, window, system, guess):
        forget = lambda part, guess: run(part._replace(h0=jax.tree.map(jnp.zeros_like, part.h0)), guess)  # noqa: E731
        return true(run if window is None else forget, window, system, guess)

    monkeypatch.setattr(newton, "in_windows", broken)


@pytest.mark.parametrize(
    ("accepted", "plant"),
    [
        pytest.param(gradients_are_exact, quasi_adjoint, marks=pytest.mark.slow),
        (a_bad_row_is_reported, maximum_that_drops_nan),
        (what_is_called_converged_solves_the_recurrence, success_by_the_last_step),
        pytest.param(modes_agree, windows_that_start_from_zero, marks=pytest.mark.slow),
    ],
)
def test_a_planted_defect_is_found(accepted, plant, monkeypatch):
    assert accepted()
    jax.clear_caches()
    plant(monkeypatch)
    assert not accepted()
    jax.clear_caches()
