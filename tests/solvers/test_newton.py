"""What Newton promises: certificates for each sequence, few iterations, and gradients that do not count them."""

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, Diagonal
from jaxseq.solvers import Newton, Sequential, solve
from jaxseq.solvers.solution import largest

D = 4
run = jax.jit(solve, static_argnames=("cell", "solver"))


@cache
def para_gru(batch, time, width=D):
    """A cell with |a| <= 0.5, its parameters and inputs."""
    rng = np.random.default_rng(0)
    cell = CELLS["para_gru"](width, width)
    w = rng.uniform(-1, 1, (3, 1, width, width)) * np.sqrt(3 / width)
    params = {"a": rng.uniform(-0.5, 0.5, (3, width)), "w": w, "b": np.zeros((3, width))}
    params = jax.tree.map(lambda x: jnp.asarray(x, np.float32), params)
    return cell, params, cell.inputs(params, jnp.asarray(rng.normal(size=(batch, time, width)), np.float32))


@dataclass(frozen=True)
class Linear:
    """h' = a h + u, the cell that Newton solves in one iteration."""

    structure: ClassVar[Any] = Diagonal()

    def init_state(self, batch):
        return jnp.zeros((batch, D))

    def step(self, params, h, u):
        return params * h + u


@pytest.mark.parametrize("solver", [Newton(), Sequential()], ids=["newton", "sequential"])
@pytest.mark.parametrize(("cell_name", "poison"), [("para_gru", np.nan), ("linear", np.nan), ("linear", np.inf)])
def test_a_poisoned_sequence_is_reported_and_touches_no_other(cell_name, poison, solver):
    cell, params, u = para_gru(8, 64)
    if cell_name == "linear":
        cell, params, u = Linear(), params["a"][0], u[0]
    clean = run(cell, params, u, solver=solver)
    solution = run(cell, params, jax.tree.map(lambda x: x.at[5, 20, 1].set(poison), u), solver=solver)
    others = np.arange(8) != 5
    assert bool(jnp.all(clean.converged))
    np.testing.assert_array_equal(solution.converged, others)
    for name in ("h", "final", "iterations", "residual"):
        np.testing.assert_array_equal(getattr(solution, name)[others], getattr(clean, name)[others])
    assert solution.residual[5] == np.inf
    assert solution.iterations[5] == 0  # given up at once


def test_a_poisoned_sequence_is_reported_in_a_large_batch():
    cell, params, u = para_gru(1024, 2, width=32)
    solution = run(cell, params, jax.tree.map(lambda x: x.at[700].set(np.nan), u))
    np.testing.assert_array_equal(solution.converged, np.arange(1024) != 700)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("columns", [slice(0, 64), slice(63, 64)], ids=["all", "one"])
def test_the_largest_entry_of_a_row_with_one_that_is_not_finite_is_infinite(poison, columns):
    x = jnp.ones((1024, 64)).at[3, columns].set(poison)
    np.testing.assert_array_equal(jax.jit(largest)(x), np.where(np.arange(1024) == 3, np.inf, 1))


def test_no_convergence_within_the_budget_is_reported():
    cell, params, u = para_gru(2, 64)
    params = {**params, "a": jnp.array([[0.0], [0.0], [60.0]]) * jnp.array([1.0, -1.0, 1.0, -1.0])}
    solution = run(cell, params, (u[0] + 3, u[1] + 3, u[2]), solver=Newton(max_iterations=4, on_failure="return"))
    assert not bool(jnp.any(solution.converged))
    assert bool(jnp.all(solution.residual > 1e-3))
    np.testing.assert_array_equal(solution.iterations, [4, 4])


def test_the_residual_is_that_of_the_states_returned():
    cell, params, u = para_gru(2, 64)
    solution = run(cell, params, u, solver=Newton(max_iterations=1, on_failure="return"))
    before = jnp.pad(solution.h, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    wanted = jnp.max(jnp.abs(cell.step(params, before, u) - solution.h), axis=(1, 2))
    assert bool(jnp.all(wanted > 1e-5))
    np.testing.assert_allclose(solution.residual, wanted, atol=1e-7)


def test_a_cell_linear_in_its_state_takes_one_iteration(close):
    u = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, D)), np.float32)
    a = jnp.array([0.9, -0.99, 0.5, 0.0])
    solution = run(Linear(), a, u, solver=Newton(tolerance=1e-5))
    np.testing.assert_array_equal(solution.iterations, [1, 1])
    close(solution.h, run(Linear(), a, u, solver=Sequential()).h)


@pytest.mark.parametrize("time", [256, 2048])
def test_para_gru_with_bounded_weights_takes_three_iterations_at_any_length(time):
    cell, params, u = para_gru(4, time, width=16)
    solution = run(cell, params, u, solver=Newton(tolerance=1e-4))
    assert bool(jnp.all(solution.converged))
    assert int(jnp.max(solution.iterations)) <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bound", "most"),
    [("para_gru", 0.5, 3), ("para_lstm", 0.5, 4), ("para_gru", 0.9, 5), ("para_lstm", 0.9, 5)],
)
@pytest.mark.parametrize("time", [256, 2048, 8192])
def test_bounded_weights_take_few_iterations_at_any_length(name, bound, most, time):
    rng = np.random.default_rng(0)
    cell = CELLS[name](16, 16)
    params = dict(cell.init(jax.random.key(0)))
    for key in params.keys() & {"a", "c"}:
        params[key] = jnp.asarray(rng.uniform(-bound, bound, params[key].shape), np.float32)
    u = cell.inputs(params, jnp.asarray(rng.normal(size=(2, time, 16)), np.float32))
    solution = run(cell, params, u, solver=Newton(tolerance=1e-4, on_failure="return"))
    assert bool(jnp.all(solution.converged))
    assert int(jnp.max(solution.iterations)) <= most


class Counting(CELLS["para_gru"]):
    """A cell that notes how often its Jacobian is asked for."""

    asked: ClassVar[list[int]] = []

    def jacobian(self, params, h, u):
        jax.debug.callback(lambda: self.asked.append(1))
        return Diagonal().linearise(partial(self.step, params, u=u), h)[1]


def test_the_iterations_reported_are_those_taken():
    _, params, u = para_gru(2, 64)
    jax.block_until_ready(solution := run(Counting(D, D), params, u, solver=Newton(on_failure="return")))
    jax.effects_barrier()
    assert len(Counting.asked) == int(jnp.max(solution.iterations)) + 2  # at the guess, and for `growth` in the end


@pytest.mark.slow
def test_a_million_steps_of_one_channel(close):
    cell, params, u = para_gru(1, 2**20 + 1, width=1)
    ours = run(cell, params, u, solver=Newton(window=4096))
    assert bool(jnp.all(ours.converged))
    close(ours.h, run(cell, params, u, solver=Sequential()).h)


def test_a_sequence_that_has_converged_is_left_alone():
    cell, params, u = para_gru(2, 64)
    slow = {**params, "a": 8 * params["a"]}
    hard = run(cell, slow, u)
    solution = run(cell, slow, jax.tree.map(lambda x: x.at[1].set(0.0), u))
    assert solution.iterations[1] < solution.iterations[0] == hard.iterations[0]
    np.testing.assert_array_equal(solution.h[0], hard.h[0])


def stepped(cell, params, u):
    """The states by lax.scan."""
    first = jnp.zeros_like(u[0][:, 0])
    steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), u)
    _, h = jax.lax.scan(lambda h, u: (cell.step(params, h, u),) * 2, first, steps)
    return jnp.swapaxes(h, 0, 1)


def test_the_gradient_depends_neither_on_the_number_of_iterations_nor_on_the_scan_s_dtype(close):
    cell, params, u = para_gru(2, 64)

    @partial(jax.jit, static_argnums=0)
    def gradient(solver):
        def loss(params, u):
            solution = solve(cell, params, u, solver=solver)
            return jnp.sum(jnp.sin(solution.h)), solution.iterations

        return jax.grad(loss, (0, 1), has_aux=True)(params, u)

    solvers = Newton(tolerance=1e-5), Newton(tolerance=1e-12, max_iterations=20), Newton(scan_dtype="bfloat16")
    (few, spent), (many, more), (narrow, _) = map(gradient, solvers)
    assert bool(jnp.all(spent + 3 < more))
    close((few, narrow), (many, many))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (params, u))
        exact = jax.jit(jax.grad(lambda params, u: jnp.sum(jnp.sin(stepped(cell, params, u))), (0, 1)))(*wide)
    close(many, jax.tree.map(np.asarray, exact))


def test_the_memory_of_a_gradient_does_not_depend_on_the_budget():
    cell, params, u = para_gru(2, 64)

    def memory(budget):
        loss = jax.grad(lambda p: jnp.sum(solve(cell, p, u, solver=Newton(max_iterations=budget)).h))
        return jax.jit(loss).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert memory(3) == memory(30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"tolerance": np.nan}, "tolerance must be positive, got nan"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
    ],
)
def test_a_wrong_budget_is_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Newton(**options)
