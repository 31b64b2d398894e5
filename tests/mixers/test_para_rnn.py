"""What ParaRNN promises beyond the contract: any cell, any solver, and figures of its solves."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq import solvers
from jaxseq.cells import CELLS
from jaxseq.experiment import DataConfig, Experiment, TrainConfig
from jaxseq.mixers.para_rnn import SOLVERS, ParaRNN, summary
from jaxseq.model import ModelConfig
from jaxseq.solvers import Newton, Solution, Status, solve
from jaxseq.solvers.jacobian import largest_jacobian
from tests.e2e.conftest import train

B, T, D = 2, 12, 8
REPORTED = {"iterations", "iterations_max", "converged", "fell_back", "residual"}


def run(mixer, x, params=None):
    params = meta.unbox(mixer.init(jax.random.key(0), x[:, :1])) if params is None else params
    apply = jax.jit(lambda params, x: mixer.apply(params, x, mutable=["diagnostics", "stability"]))
    return *apply({"params": params["params"]}, x), params


@pytest.fixture
def x():
    return jax.random.normal(jax.random.key(1), (B, T, D))


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_declared_and_keeps_its_state(name):
    mixer = ParaRNN(width=D, cell=name, solver="sequential")
    x = jax.ShapeDtypeStruct((B, T, D), jnp.float32)
    params = meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), x))
    (y, state), _ = jax.eval_shape(lambda p, x: mixer.apply(p, x, mutable=["diagnostics"]), params, x)
    assert y.shape == (B, T, D)
    assert jax.tree.map(lambda a: a.shape, state) == jax.tree.map(lambda a: a.shape, mixer.init_state(B))


def test_recurrent_chooses_the_form_of_the_maps():
    diagonal, dense = (ParaRNN(width=D, cell="gru", recurrent=form).make_cell() for form in ("diagonal", "dense"))
    assert (diagonal.recurrent, dense.recurrent) == ("diagonal", "dense")


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_the_states_of_a_sequential_solve(solver, x, close):
    quick = {} if solver == "sequential" else {"on_failure": "return"}  # less to compile
    (expected, _), _, params = run(ParaRNN(width=D, solver="sequential"), x)
    (y, _), seen, _ = run(ParaRNN(width=D, solver=solver, **quick), x, params)
    close(y, expected)
    assert seen["diagnostics"]["converged"] == 1


def test_the_state_of_a_cell_with_two_carries_over(x, close):
    mixer = ParaRNN(width=D, cell="lstm", solver="sequential")
    (expected, last), _, params = run(mixer, x)
    apply = jax.jit(lambda x, state: mixer.apply(params, x, state=state))
    first, state = apply(x[:, :6], mixer.init_state(B))
    second, state = apply(x[:, 6:], state)
    close((jnp.concatenate([first, second], axis=1), state), (expected, last))


def test_options_reach_the_solver():
    options = {"tolerance": 1e-3, "max_iterations": 5, "window": 4, "on_failure": "return"}
    assert ParaRNN(width=D, **options).make_solver() == Newton(**options)


def test_it_reports_its_solves(x):
    _, seen, _ = run(ParaRNN(width=D, cell="lstm", on_failure="return"), x)
    found = seen["diagnostics"]
    assert set(found) == REPORTED
    assert all(value.shape == () and value.dtype == jnp.float32 for value in found.values())
    assert 1 <= found["iterations"] <= found["iterations_max"] <= 12
    assert (found["converged"], found["fell_back"]) == (1, 0)
    stable = seen["stability"]
    assert set(stable) == {"growth", "jacobian"}
    assert stable["growth"] <= jnp.log(stable["jacobian"])


def test_recurrent_weights_that_grow_raise_the_alarm(x):
    mixer = ParaRNN(width=D)
    params = meta.unbox(mixer.init(jax.random.key(0), x[:, :1]))["params"]

    @jax.jit
    def seen(size):
        grown = {**params, "cell": {**params["cell"], "a": size * params["cell"]["a"]}}
        return mixer.apply({"params": grown}, x, mutable=["diagnostics", "stability"])[1]

    found = [seen(size) for size in (1.0, 10.0, 100.0)]
    spent = [float(one["diagnostics"]["iterations_max"]) for one in found]
    jacobians = [float(one["stability"]["jacobian"]) for one in found]
    assert spent[0] < spent[1] < spent[2]
    assert jacobians[0] < 1 < jacobians[1] < jacobians[2]


@pytest.mark.slow
def test_training_by_newton_and_by_stepping_gives_one_loss_curve(tmp_path):
    def losses(solver):
        config = Experiment(
            model=ModelConfig(width=16, layers=1, options={"para_rnn": {"solver": solver}}),
            data=DataConfig(source=str(Path(solvers.__file__).parent / "*.py"), length=32, batch=8),
            train=TrainConfig(steps=500, log_every=1, eval_every=0, eval_batches=1, save_every=0, sample_tokens=0),
        )
        train(config, str(tmp_path / solver))
        return [json.loads(line)["loss"] for line in (tmp_path / solver / "metrics.jsonl").read_text().splitlines()]

    newton, sequential = np.array(losses("newton")), np.array(losses("sequential"))
    assert len(newton) == 500
    assert newton[-1] < newton[0] - 2
    np.testing.assert_allclose(newton, sequential, rtol=0, atol=1e-3)


def test_a_summary_takes_means_of_some_and_the_worst_of_others():
    rows = jnp.array([2, 4, 6], jnp.int32)
    status = jnp.array([Status.CONVERGED, Status.FELL_BACK, Status.STALLED])
    solution = Solution(None, None, rows, jnp.array([0.0, 1.0, jnp.inf]), rows, jnp.array([-1.0, -2.0, -3.0]), status)
    found = summary(solution)
    expected = {"iterations": 4, "iterations_max": 6, "converged": 2 / 3, "fell_back": 1 / 3, "residual": np.inf}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


class Linear:
    """h' = a h + u."""

    structure = CELLS["para_gru"](1, 1).structure

    def init_state(self, batch):
        return jnp.zeros((batch, 1))

    def step(self, params, h, u):
        return params * h + u


def test_the_largest_jacobian_of_a_linear_cell_is_its_factor_and_padding_does_not_count(close):
    u, mask = jnp.ones((2, 5, 1)), jnp.ones((2, 5), bool).at[0, 2].set(False)
    found = solve(Linear(), jnp.float32(-0.7), u, mask=mask)
    close(largest_jacobian(Linear(), jnp.float32(-0.7), u, found, mask=mask), np.full(2, 0.7))


def test_a_jacobian_that_is_not_finite_is_reported_as_infinite():
    u = jnp.ones((1, 5, 1))
    found = solve(Linear(), jnp.float32(0.5), u)
    assert largest_jacobian(Linear(), jnp.float32(np.nan), u, found)[0] == np.inf
