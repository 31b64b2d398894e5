"""Every cell of the registry, in both forms, solved in parallel: the states and gradients of a scan in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, RecurrentCell
from jaxseq.ops import reference
from jaxseq.solvers import Newton, Status, solve

D, B = 4, 2
FORMS = [
    (name, form)
    for name, kind in CELLS.items()
    for form in (("dense", "diagonal") if issubclass(kind, RecurrentCell) else (None,))
]
TIMES = (1, 2, 3, 7, 33, 65)
LINEAR = {"min_gru", "min_lstm", "qlstm", "t_rnn", "t_gru", "t_lstm"}  # in the state: one iteration


def problem(name, form, time):
    cell = CELLS[name](D, D, **({} if form is None else {"recurrent": form}))
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, np.float64), cell.init(jax.random.key(1)))
        u = cell.inputs(params, jnp.asarray(rng.normal(size=(B, time, D))))
        h0 = cell.project(jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape)), cell.init_state(B)))
    return cell, (params, u, h0)


def loss(states, *args):
    h = states(*args)
    return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(h)), h


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_parallel_is_sequential(name, form, close):
    index = FORMS.index((name, form))
    time = TIMES[index % len(TIMES)]
    cell, args = problem(name, form, time)
    newton = partial(solve, cell, solver=Newton(max_iterations=80, on_failure="return"))

    def ours_and_more(*args):
        solution = newton(*args)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(solution.h)), solution

    def exact(params, u, h0):
        return reference.recurrence(partial(cell.step, params), u, h0)

    with jax.enable_x64(True):
        (_, solution), ours_g = jax.jit(jax.value_and_grad(ours_and_more, (0, 1, 2), has_aux=True))(*args)
        (_, theirs), theirs_g = jax.jit(jax.value_and_grad(partial(loss, exact), (0, 1, 2), has_aux=True))(*args)
    assert bool(jnp.all(solution.status == Status.CONVERGED))
    close(jax.tree.leaves(solution.h), jax.tree.leaves(theirs), "float64")
    pairs = zip(jax.tree.leaves(ours_g), jax.tree.leaves(theirs_g), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(1, np.max(np.abs(b), initial=0)))
    if name in LINEAR and time > 1:
        assert int(jnp.max(solution.iterations)) == 1
