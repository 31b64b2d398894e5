"""One recurrence, however it is solved: the same states and statuses at every border of chunks and windows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.ops import reference
from jaxseq.solvers import FusedNewton, Newton, Sequential, Status, solve

B, D = 2, 2
STEPPED = Sequential("loop")
BOUND = 5e-7  # on the residual: the states are then within 2e-6
MODES = [Newton(BOUND, method=method) for method in ("sequential", "associative", "chunked")]
MODES += [Newton(BOUND, window=window) for window in (32, 128, 1024)]
KERNELS = [
    Sequential("interpret:tpu"),
    Newton(BOUND, method="interpret:gpu"),
    FusedNewton(BOUND, method="interpret:tpu"),
]


def problem(name, time, batch=B, width=D):
    """A cell, parameters and inputs in float64, and two states to start from: zero and another."""
    cell, rng = CELLS[name](width, width), np.random.default_rng(time)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, np.float64), cell.init(jax.random.key(0)))
        u = cell.inputs(params, jnp.asarray(rng.normal(size=(batch, time, width))))
    zero = jax.tree.map(np.asarray, cell.init_state(batch))
    return cell, params, u, (zero, jax.tree.map(lambda x: 0.5 * rng.normal(size=x.shape), zero))


def in_every_mode(cell, modes, params, u, h0):
    return [solve(cell, params, u, h0, solver=mode) for mode in modes]


def agree(modes, time, batch=B, width=D):
    cell, *args, (_, h0) = problem("para_gru", time, batch, width)
    args = jax.tree.map(lambda x: jnp.asarray(x, np.float32), (*args, h0))
    exact, *others = jax.jit(partial(in_every_mode, cell, [STEPPED, *modes]))(*args)
    for found in others:
        np.testing.assert_array_equal(found.status, [Status.CONVERGED] * batch)
        np.testing.assert_array_equal(found.exact_prefix, [time] * batch)
        assert float(jnp.max(jnp.abs(found.h - exact.h))) <= 2e-6


@pytest.mark.parametrize("time", [33])
def test_modes_agree_behind_a_border(time):
    agree([MODES[2], MODES[3]], time)


@pytest.mark.slow
@pytest.mark.parametrize("time", [2, 31, 32, 33, 127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 4099])
def test_all_modes_agree_around_every_border(time):
    agree([*MODES, *KERNELS] if time <= 257 else MODES, time)


@pytest.mark.slow
def test_modes_agree_beyond_thirty_two_thousand_steps():
    agree(MODES, 2**15 + 1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("time", [255, 256, 257, 1000, 4099])
@pytest.mark.parametrize("name", ["para_gru", "para_lstm", "gru"])
def test_long_sequences_are_those_of_float64(name, time, dtype, close):
    cell, params, u, starts = problem(name, time)
    exact = jax.jit(lambda params, u, h0: reference.recurrence(partial(cell.step, params), u, h0))
    with jax.enable_x64(True):
        ours = jax.jit(lambda params, u, h0: solve(cell, params, u, h0))
        for h0 in starts:
            args = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (params, u, h0))
            found = ours(*jax.tree.map(lambda x: x.astype(dtype), args))
            np.testing.assert_array_equal(found.status, [Status.CONVERGED] * B)
            close(found.h, exact(*args), dtype)
