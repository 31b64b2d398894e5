"""Real-time recurrent learning gives the gradients of backpropagation through time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.ops import reference
from jaxseq.solvers import rtrl


def loss(h, target):
    return sum(jnp.sum(jnp.square(x - target)) for x in jax.tree.leaves(h))


def problem(name, time):
    cell = CELLS[name](3, 4)
    params = jax.tree.map(lambda x: jnp.asarray(x, np.float64), cell.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    h0 = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), cell.init_state(2))
    return cell, params, jnp.asarray(rng.normal(size=(2, time, 3))), jnp.asarray(rng.normal(size=(2, time, 4))), h0


@pytest.mark.parametrize("name", ["para_gru", "para_lstm"])
def test_it_equals_backpropagation_through_time(name, close):
    with jax.enable_x64(True):
        cell, params, x, targets, h0 = problem(name, 9)

        def through_time(params):
            h = reference.recurrence(lambda h, u: cell.step(params, h, u), cell.inputs(params, x), h0)
            return loss(h, targets)

        ours = jax.jit(lambda params: rtrl(cell, params, x, loss, targets, h0))(params)
        close(ours, jax.jit(jax.value_and_grad(through_time))(params), "float64")


def test_its_memory_does_not_grow_with_time():
    def temporaries(time):
        with jax.enable_x64(True):
            cell, params, x, targets, _ = problem("para_gru", time)
            run = jax.jit(lambda params, x, targets: rtrl(cell, params, x, loss, targets))
            used = run.lower(params, x, targets).compile().memory_analysis().temp_size_in_bytes
        return used - x.nbytes - targets.nbytes  # which are turned to time-major order

    assert temporaries(512) <= temporaries(16) + 1024


def test_cells_that_mix_are_refused():
    cell = CELLS["lstm"](3, 4)
    with pytest.raises(ValueError, match="rtrl needs a cell whose channels do not mix, got the structure Dense"):
        rtrl(cell, cell.init(jax.random.key(0)), jnp.ones((2, 5, 3)), loss, jnp.ones((2, 5, 4)))


def test_parameters_without_a_number_per_channel_are_refused():
    cell = CELLS["para_gru"](4, 4, heads=2)
    with pytest.raises(ValueError, match=r"rtrl needs parameters \(..., 4\), one number per channel"):
        rtrl(cell, cell.init(jax.random.key(0)), jnp.ones((2, 5, 4)), loss, jnp.ones((2, 5, 4)))
