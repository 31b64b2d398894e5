"""What a solve is made of: what it keeps for the backward pass, and how its program grows with time."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxseq.cells import CELLS
from jaxseq.ops.remat import SAVED
from jaxseq.solvers import Newton, Sequential, solve

B, T, D = 2, 256, 8
CELL = CELLS["para_gru"](D, D)
PARAMS = jax.eval_shape(CELL.init, jax.random.key(0))


def inputs(time):
    return jax.eval_shape(CELL.inputs, PARAMS, jax.ShapeDtypeStruct((B, time, D), jnp.float32))


def states(params, u, solver):
    return solve(CELL, params, u, solver=solver).h


@pytest.mark.parametrize("solver", [Newton(), Newton(max_iterations=3), Sequential()], ids=repr)
def test_inputs_and_states_alone_are_kept_for_the_backward_pass(solver):
    def kept(params, u):
        return jax.vjp(partial(states, solver=solver), params, u)[1]

    words = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(kept, PARAMS, inputs(T)))) / (B * T * D)
    assert 4 <= words < 4.1  # three gates of u, and h


def program(method, time):
    solver = Newton(method=method, on_failure="return")
    return jax.jit(partial(states, solver=solver)).lower(PARAMS, inputs(time)).as_text()


def test_the_iterations_are_one_loop_and_its_scan_has_logarithmic_depth():
    sizes = [len(program("associative", time).splitlines()) for time in (T, 2 * T, 4 * T)]
    assert program("associative", T).count("stablehlo.while") == 1
    assert 0 < sizes[1] - sizes[0] == sizes[2] - sizes[1] <= 40  # so many more for every doubling


def test_a_stepped_scan_is_the_same_program_at_any_length():
    assert len(program("sequential", T).splitlines()) == len(program("sequential", 2 * T).splitlines())


def test_what_is_called_again_with_another_solver_of_equal_fields_is_not_traced_again():
    traces = []

    @partial(jax.jit, static_argnums=1)
    def run(u, solver):
        traces.append(solver)
        return states(CELL.init(jax.random.key(0)), u, solver)

    u = jax.tree.map(lambda x: jnp.zeros((B, 8, D)), inputs(8))
    for solver in (Newton(tolerance=1e-4), Newton(tolerance=1e-4)):
        run(u, solver)
    assert len(traces) == 1


def test_another_tolerance_compiles_nothing():
    traces = []

    @jax.jit
    def run(params, u, tolerance):
        traces.append(tolerance)
        solution = solve(CELL, params, u, solver=Newton(on_failure="return"), tolerance=tolerance)
        return solution.iterations, solution.residual

    params = CELL.init(jax.random.key(0))
    u = CELL.inputs(params, jax.random.normal(jax.random.key(1), (B, 32, D)))
    (few, rough), (many, fine) = (run(params, u, tolerance) for tolerance in (1e-2, 1e-6))
    assert len(traces) == 1
    assert bool(jnp.all(few < many))
    assert bool(jnp.all((fine <= 1e-6) & (rough > 1e-6) & (rough <= 1e-2)))


def test_a_policy_that_keeps_the_states_does_not_solve_again():
    solver = Newton(method="associative", on_failure="return")
    kept = jax.checkpoint(partial(states, solver=solver), policy=jax.checkpoint_policies.save_only_these_names(SAVED))
    program = jax.make_jaxpr(jax.grad(lambda *args: jnp.sum(kept(*args))))(PARAMS, inputs(8))
    assert str(program).count("while[") == 1
