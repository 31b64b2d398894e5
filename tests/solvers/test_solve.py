"""Every solver, on a cell of ours and on a cell of a user's, against lax.scan in float64."""

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, Diagonal
from jaxseq.ops import reference
from jaxseq.solvers import Newton, Sequential, solve

SOLVERS = {
    "newton": Newton(),
    "newton_associative": Newton(method="associative"),
    "newton_sequential": Newton(method="sequential"),
    "sequential": Sequential(),
}
B, T, D = 3, 33, 4
run = jax.jit(solve, static_argnames=("cell", "solver"))


@dataclass(frozen=True)
class Relaxation:
    """A user's cell: h relaxes towards tanh(w h + u), with u and w of the state's own shape (2, D)."""

    structure: ClassVar[Any] = Diagonal()

    def init_state(self, batch):
        return jnp.zeros((batch, 2, D))

    def step(self, params, h, u):
        return h + jax.nn.sigmoid(params["rate"]) * (jnp.tanh(params["w"] * h + u["drive"]) - h)


def random(seed, *shape, size=1.0):
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


@cache
def problem(cell_name, time=T):
    """cell, (params, u, h0) as float32 numpy, flags with resets at padding, and cotangents of h and final."""
    flags = np.random.default_rng(1).random((2, B, time))
    flag = {"reset": flags[0] < 0.15, "mask": flags[1] < 0.8}
    if cell_name == "user":
        params = {"w": random(2, 2, D, size=1.5), "rate": random(3, 2, D)}
        cell, u, h0 = Relaxation(), {"drive": random(4, B, time, 2, D)}, random(5, B, 2, D)
    else:
        cell = CELLS[cell_name](2 * D, 2 * D, heads=2)
        params = jax.tree.map(np.asarray, cell.init(jax.random.key(0)))
        u = jax.tree.map(np.asarray, cell.inputs(params, jnp.asarray(random(4, B, time, 2 * D))))
        h0 = random(5, *cell.init_state(B).shape, size=0.5)
    return cell, (params, u, h0), flag, (random(6, B, time, *h0.shape[1:]), random(7, *h0.shape))


def gradients(f, arguments, weights):
    """(h, final) and the cotangents of params, u and h0 for a loss on both."""
    states, pull = jax.vjp(f, *arguments)
    return states, pull(weights)


@cache
def expected(cell_name, time=T):
    cell, arguments, flag, weights = problem(cell_name, time)

    def scan(params, u, h0):
        h = reference.recurrence(partial(cell.step, params), u, h0, **flag)
        return h, h[:, -1]

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (arguments, weights))
        return jax.tree.map(np.asarray, jax.jit(partial(gradients, scan))(*wide))


def states(cell, solver, flag, params, u, h0):
    solution = solve(cell, params, u, h0, solver=solver, **flag)
    return solution.h, solution.final


@pytest.mark.parametrize(
    ("solver", "cell_name", "time"),
    [
        *(("newton", name, 1) for name in ("para_gru", "user")),
        *((solver, "user", 2) for solver in SOLVERS),
        *((solver, name, T) for solver in SOLVERS for name in ("para_gru", "user")),
    ],
)
def test_values_and_gradients_are_the_reference_s(solver, cell_name, time, close):
    cell, arguments, flag, weights = problem(cell_name, time)
    ours = partial(states, cell, SOLVERS[solver], flag)
    close(jax.jit(partial(gradients, ours))(arguments, weights), expected(cell_name, time))


def test_float64_is_solved_to_float64(close):
    cell, arguments, flag, weights = problem("user")
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (arguments, weights))
        ours = partial(states, cell, Newton(tolerance=1e-13), flag)
        close(jax.jit(partial(gradients, ours))(*wide), expected("user"), "float64")


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_parts_with_the_state_carried_are_the_whole(solver, close):
    cell, (params, u, h0), _, _ = problem("user")
    method = SOLVERS[solver]
    whole = run(cell, params, u, h0, solver=method)
    first = run(cell, params, {"drive": u["drive"][:, :7]}, h0, solver=method)
    second = run(cell, params, {"drive": u["drive"][:, 7:]}, first.final, solver=method)
    close(jnp.concatenate([first.h, second.h], axis=1), whole.h)
    close(second.final, whole.final)


def test_the_gradient_of_three_parts_with_the_state_carried_is_that_of_the_whole(close):
    cell, arguments, flag, weights = problem("user")

    def parts(params, u, h0):
        found, state = [], h0
        for start, stop in ((0, 5), (5, 6), (6, T)):
            here = jax.tree.map(lambda x: x[:, start:stop], (u, flag))  # noqa: B023
            solution = solve(cell, params, here[0], state, **here[1])
            found, state = [*found, solution.h], solution.final
        return jnp.concatenate(found, axis=1), state

    close(jax.jit(partial(gradients, parts))(arguments, weights), expected("user"))


def test_without_h0_the_state_starts_at_the_cell_s_own(close):
    cell, (params, u, h0), _, _ = problem("user")
    close(run(cell, params, u).h, run(cell, params, u, jnp.zeros_like(h0)).h)


def test_one_step_is_taken_without_an_iteration():
    cell, (params, u, h0), flag, _ = problem("user", 1)
    solution = run(cell, params, u, h0, **flag)
    assert bool(jnp.all(solution.iterations == 0))
    assert bool(jnp.all(solution.converged))


def test_the_paper_s_equations_give_the_golden_numbers():
    with jax.enable_x64(True):
        v, p, i, j = np.ogrid[:3, :2, :2, :3]
        w = 0.4 * (p + 1) - 0.3 * i + 0.2 * v - 0.1 * j
        v, j = np.ogrid[:3, :6]
        params = {"a": 0.3 * (v + 1) - 0.1 * j, "w": w, "b": 0.05 * (v - j)}
        params = jax.tree.map(jnp.asarray, params)
        t, i = np.ogrid[:4, :4]
        cell = CELLS["para_gru"](4, 6, heads=2)
        u = cell.inputs(params, jnp.asarray(np.sin(0.7 * t + 0.3 * i))[None])
        h = np.asarray(run(cell, params, u, jnp.zeros((1, 6)), solver=Newton(tolerance=1e-12)).h)[0]
    np.testing.assert_allclose(h[0], [0.1231998, 0.0812371, 0.0413524, 0.5799611, 0.5102033, 0.4326311], atol=6e-8)
    np.testing.assert_allclose(h[3], [0.8880271, 0.7915804, 0.6456103, 0.8355560, 0.7707406, 0.6868417], atol=6e-8)
    np.testing.assert_allclose(np.abs(h).sum(), 14.8056831, atol=6e-8)


class Misfit(Relaxation):
    """A step that changes the state's shape."""

    def step(self, params, h, u):
        return jnp.concatenate([h, h], axis=-1)


class Rounding(Relaxation):
    """A step that changes the state's dtype."""

    def step(self, params, h, u):
        return super().step(params, h, u).astype(jnp.bfloat16)


class Mixing(Relaxation):
    """A step that turns u around under the state."""

    def step(self, params, h, u):
        return h[:, :1] + u["drive"]


WRONG = {
    "h0 must have shape (3, 2, 4), got (3, 8)": {"h0": np.zeros((3, 8), np.float32)},
    "u must have leaves of shape (B, T, ...) with one B and one T >= 1, got [(3, 33, 4), (3, 32, 4)]": {
        "u": (np.zeros((3, 33, 4)), np.zeros((3, 32, 4)))
    },
    "u must have leaves of shape (B, T, ...) with one B and one T >= 1, got [(3, 0, 4)]": {"u": np.zeros((3, 0, 4))},
    "u must have leaves of shape (B, T, ...) with one B and one T >= 1, got []": {"u": ()},
    "Misfit.step must return a state like the one it takes, (3, 2, 4) float32, got (3, 2, 8) float32": {
        "cell": Misfit()
    },
    "Rounding.step must return a state like the one it takes, (3, 2, 4) float32, got (3, 2, 4) bfloat16": {
        "cell": Rounding()
    },
    "reset must have shape (B, T) = (3, 33), got (3, 32)": {"reset": np.zeros((3, 32), bool)},
    "mask must be boolean, got dtype float32": {"mask": np.zeros((3, 33), np.float32)},
    "tolerance must be one positive number, got 0.0": {"tolerance": 0.0},
    "tolerance must be one positive number, got [0.1, 0.2]": {"tolerance": [0.1, 0.2]},
    "solver must be Newton(...), Sequential() or another solver, got 'newton'": {"solver": "newton"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    cell, (params, u, h0), _, _ = problem("user")
    with pytest.raises(ValueError, match=re.escape(message)):
        solve(**{"cell": cell, "params": params, "u": u, "h0": h0, **WRONG[message]})
