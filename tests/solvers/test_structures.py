"""Cells whose states mix: every structure, in every transformation, against autodiff through lax.scan in float64."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, Dense, Heads
from jaxseq.ops import reference
from jaxseq.solvers import FixedPoint, Newton, QuasiNewton, Sequential, solve
from tests.marks import slow_but

B, T, D = 2, 19, 4
FORMS = {
    "block": ("lstm", {"recurrent": "diagonal"}),
    "four_states": ("slstm", {"recurrent": "diagonal"}),
    "heads": ("lstm", {"heads": 2}),
    "dense": ("gru", {}),
}


@cache
def problem(form):
    """cell, (params, u, h0) in float64, and flags."""
    name, options = FORMS[form]
    cell, rng = CELLS[name](D, D, **options), np.random.default_rng(0)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, np.float64), cell.init(jax.random.key(0)))
        u = cell.inputs(params, jnp.asarray(rng.normal(size=(B, T, D))))
        h0 = cell.project(jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), cell.init_state(B)))
    flags = {"reset": jnp.asarray(rng.random((B, T)) < 0.1), "mask": jnp.asarray(rng.random((B, T)) < 0.8)}
    return cell, (params, u, h0), flags


def loss(states, *args):
    return sum(jnp.sum(jnp.sin(x) * (1 + jnp.arange(T)[:, None])) for x in jax.tree.leaves(states(*args)))


@cache
def expected(form):
    """Values, gradients, and a Hessian-vector product."""
    cell, args, flags = problem(form)

    def states(params, u, h0):
        return reference.recurrence(partial(cell.step, params), u, h0, **flags)

    with jax.enable_x64(True):
        return jax.jit(partial(everything, states))(*args)


def everything(states, *args):
    gradient = jax.grad(partial(loss, states), (0, 1, 2))
    direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), args)
    value, curvature = jax.jvp(gradient, args, direction)
    tangent = jax.jvp(states, args, direction)[1]
    return states(*args), value, curvature, tangent


@pytest.mark.parametrize("form", slow_but("heads", FORMS))
def test_values_gradients_tangents_and_curvature_are_the_reference_s(form, close):
    cell, args, flags = problem(form)
    with jax.enable_x64(True):
        ours = jax.jit(partial(everything, lambda *args: solve(cell, *args, **flags).h))(*args)
    close(jax.tree.leaves(ours), jax.tree.leaves(expected(form)), "float64")


@pytest.mark.parametrize(
    "solver", [QuasiNewton(max_iterations=60), FixedPoint(max_iterations=60)], ids=["quasi", "jacobi"]
)
def test_gradients_are_exact_whatever_solved_it(solver, close):
    cell, args, flags = problem("dense")
    with jax.enable_x64(True):
        states = lambda *args: solve(cell, *args, solver=solver, **flags)  # noqa: E731
        solution, gradients = jax.jit(
            lambda *args: (states(*args), jax.grad(partial(loss, lambda *x: states(*x).h), (0, 1, 2))(*args))
        )(*args)
    assert bool(jnp.all(solution.iterations > 3))
    assert bool(jnp.all(solution.status == 0))
    close(jax.tree.leaves(gradients), jax.tree.leaves(expected("dense")[1]), "float64")


@pytest.mark.parametrize("form", slow_but("block", ["block", "heads"]))
def test_linear_methods_agree(form, close):
    cell, args, flags = problem(form)
    with jax.enable_x64(True):
        for method in ("sequential", "associative", "chunked"):
            solution = jax.jit(lambda *args, m=method: solve(cell, *args, solver=Newton(method=m), **flags))(*args)
            assert bool(jnp.all(solution.status == 0))
            close(jax.tree.leaves(solution.h), jax.tree.leaves(expected(form)[0]), "float64")


@pytest.mark.slow
def test_under_vmap_scan_and_remat_it_is_the_same(close):
    cell, (params, u, h0), _ = problem("block")

    def run(params):
        return loss(lambda p: solve(cell, p, u, h0).h, params)

    with jax.enable_x64(True):
        many = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
        one = jax.jit(lambda p: [jax.grad(run)(jax.tree.map(lambda x, i=i: x[i], p)) for i in range(2)])(many)
        mapped = jax.jit(jax.vmap(jax.grad(run)))(many)
        scanned = jax.jit(lambda p: jax.lax.scan(lambda c, p: (c, jax.grad(jax.checkpoint(run))(p)), 0, p)[1])(many)
    for i in range(2):
        for tree in (mapped, scanned):
            close(jax.tree.map(lambda x, i=i: x[i], tree), one[i], "float64")


@pytest.mark.parametrize(("structure", "size"), [(Dense(budget=10**6), 64), (Heads(32, budget=10**6), 64)])
def test_a_jacobian_beyond_the_budget_is_refused_with_its_bytes(structure, size):
    cell = CELLS["gru"](size, size, heads=1 if isinstance(structure, Dense) else 2)
    cell = type("Bounded", (type(cell),), {"structure": structure})(size, size, heads=cell.heads)
    params = cell.init(jax.random.key(0))
    u = cell.inputs(params, jnp.ones((2, 100, size)))
    needed = 2 * 100 * size * (size if isinstance(structure, Dense) else 32) * 4
    with pytest.raises(
        ValueError, match=re.escape(f"takes {needed} bytes, over the budget of 1000000: use smaller heads")
    ):
        solve(cell, params, u)
    for solver in (Sequential(), QuasiNewton()):
        gradient = jax.jit(jax.grad(lambda p, s=solver: jnp.sum(solve(cell, p, u, solver=s).h)))
        text = gradient.lower(params).as_text()
        assert f"100x{size}x{size}x" not in text
        assert bool(jnp.all(solve(cell, params, u, solver=solver).converged))


@pytest.mark.parametrize("time", [2048, pytest.param(16384, marks=pytest.mark.slow)])
def test_a_bfloat16_scan_with_a_float32_residual_takes_at_most_one_more_iteration(time):
    rng = np.random.default_rng(0)
    cell = CELLS["para_gru"](8, 8)
    params = dict(cell.init(jax.random.key(0)), a=jnp.asarray(rng.uniform(-0.5, 0.5, (3, 8)), np.float32))
    u = cell.inputs(params, jnp.asarray(rng.normal(size=(2, time, 8)), np.float32))
    run = jax.jit(solve, static_argnames=("cell", "solver"))
    exact = run(cell, params, u, solver=Sequential())
    wide, narrow = (run(cell, params, u, solver=Newton(scan_dtype=d)) for d in (None, "bfloat16"))
    assert int(jnp.max(narrow.iterations)) <= int(jnp.max(wide.iterations)) + 1
    assert float(jnp.max(jnp.abs(narrow.h - exact.h))) <= 5e-7


def test_a_guess_near_the_solution_saves_iterations():
    cell, (params, u, h0), _ = problem("block")
    with jax.enable_x64(True):
        run = jax.jit(partial(solve, cell))
        cold = run(params, u, h0)
        near = jax.tree.map(lambda x: x + 1e-9, cold.h)
        warm = run(params, u, h0, guess=near)
    assert int(jnp.max(warm.iterations)) == 1 < int(jnp.min(cold.iterations))
