"""newton_scan's kernel, interpreted, against lax.scan in float64 and against cell_scan."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells.paragru import ParaGRU
from jaxseq.cells.paralstm import ParaLSTM
from jaxseq.ops import cell_scan, reference
from jaxseq.ops.kernels import newton_tpu
from jaxseq.ops.newton_scan import newton_scan
from jaxseq.sharding import make_mesh

B, T, D = 2, 43, 130  # no multiple of a window or of a tile
CELLS = {"gru": ParaGRU(D, D), "lstm": ParaLSTM(D, D)}


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@cache
def problem(name, scale=0.5):
    """params with recurrent weights of deviation `scale`, u, h0 and a cotangent of h."""
    cell = CELLS[name]
    params = {"a": scale * random(0, 3, D), "p": scale * random(1, 2, D)}
    u = tuple(random(2 + i, B, T, D) for i in range(3))
    h0, g = (tuple(0.5 * random(s + i, *shape) for i in range(2)) for s, shape in ((5, (B, D)), (7, (B, T, D))))
    return cell.step, params, u, *(x if name == "lstm" else x[0] for x in (h0, g))


def flags():
    rng = np.random.default_rng(9)
    return {"reset": rng.random((B, T)) < 0.1, "mask": rng.random((B, T)) < 0.8}


@cache
def kernel(step, **options):
    """The interpreted kernel, compiled; of (params, u, h0, reset, mask)."""

    def run(params, u, h0, reset=None, mask=None):
        return newton_scan(step, params, u, h0, reset=reset, mask=mask, method="interpret:tpu", **options)

    return jax.jit(run)


@cache
def expected(name, scale=0.5, flagged=True):
    step, *inputs, _ = problem(name, scale)
    with jax.enable_x64(True):
        inputs = jax.tree.map(lambda x: jnp.asarray(x, np.float64), inputs)
        run = partial(reference.cell_scan, step, **(flags() if flagged else {}))
        return jax.tree.map(np.asarray, jax.jit(run)(*inputs))


@pytest.mark.parametrize("name", CELLS)
def test_resets_masks_and_states_give_the_reference_s_values(name, close):
    step, *inputs, _ = problem(name)
    h, stats = kernel(step, window=16)(*inputs, **flags())
    close(h, expected(name))
    assert np.all(stats.stepped == 0)
    assert np.all((stats.iterations >= 2) & (stats.iterations <= 6))
    assert np.all(stats.residual <= 1e-6)


@pytest.mark.parametrize("window", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_any_window_gives_the_reference_s_values(window, close):
    step, *inputs, _ = problem("gru")
    h, stats = kernel(step, window=window)(*inputs)
    close(h, expected("gru", flagged=False))
    assert np.all(stats.stepped == 0)


def test_blocks_of_time_join(close, monkeypatch):
    monkeypatch.setattr(newton_tpu, "VMEM", 2**17)  # two windows a block; the last block reaches over the end
    step, *inputs, _ = problem("gru")
    h, stats = jax.jit(partial(newton_scan, step, window=16, method="interpret:tpu"))(*inputs)
    close(h, expected("gru", flagged=False))
    assert np.all(stats.stepped == 0)


def test_a_linear_step_takes_one_iteration():
    a, u = np.full(4, 0.99, np.float32), random(0, 1, 16, 4)
    _, stats = newton_scan(lambda a, h, u: a * h + u, a, u, method="interpret:tpu")
    assert stats.iterations == 1


def test_channels_over_the_end_do_not_count():
    """They are zero, and so are their parameters."""
    u = random(0, 1, 8, 4)
    h, stats = newton_scan(lambda p, h, u: jnp.tanh(h + u / p), jnp.ones(4), u, method="interpret:tpu")
    assert np.all(np.isfinite(h))
    assert stats.stepped == 0


def once(step, params, u, h0, h, reset, mask):
    """Every step taken from the state before it: the equation itself, in which rounding does not grow along time."""
    before = jnp.where(reset[..., None], 0, jnp.concatenate([h0[:, None], h[:, :-1]], axis=1))
    return jnp.where(mask[..., None], step(params, before, u), before)


def test_a_window_that_newton_does_not_solve_is_stepped_through(close):
    step, *inputs, _ = problem("gru", 4.0)
    h, stats = kernel(step, window=16)(*inputs, **flags())
    close(h, jax.jit(partial(once, step))(*inputs, h, **flags()))
    assert np.all(stats.stepped > 0)
    assert np.all(stats.stepped <= 2 * 3)
    assert np.all(stats.iterations == 8)
    assert np.all(stats.residual <= 1e-6)


def at(row, time):
    flag = np.zeros((B, T, 1), bool)
    flag[row, time] = True
    return flag


def test_a_nan_stays_in_its_row_and_its_document_and_is_reported():
    step, params, u, h0, _ = problem("gru")
    reset, mask = np.zeros((B, T), bool), np.ones((B, T), bool)
    reset[1, 30] = True
    run = kernel(step, window=16)
    whole, stats = run(params, u, h0, reset=reset, mask=mask)
    damaged = u[0], np.where(at(1, 20), np.nan, u[1]), u[2]
    poisoned, reported = run(params, damaged, h0, reset=reset, mask=mask)
    clean = np.ones((B, T), bool)
    clean[1, 20:30] = False
    assert np.array_equal(np.isfinite(poisoned).all(-1), clean)
    assert np.array_equal(poisoned[0], whole[0])
    assert np.isinf(reported.residual[1])
    assert reported.stepped[1] == 2  # groups of channels
    assert jax.tree.all(jax.tree.map(lambda x, y: x[0] == y[0], stats, reported))


def test_what_a_masked_step_is_given_is_not_read():
    step, params, u, h0, _ = problem("gru")
    garbage = jax.tree.map(lambda x: np.where(flags()["mask"][..., None], x, np.nan), u)
    run = kernel(step, window=16)
    h, stats = run(params, garbage, h0, **flags())
    assert np.array_equal(h, run(params, u, h0, **flags())[0])
    assert np.all(stats.stepped == 0)


@pytest.mark.parametrize("name", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
def test_gradients_are_those_of_cell_scan(name, close):
    step, *inputs, g = problem(name)
    flagged = flags()

    def loss(run, inputs):
        h = run(step, *inputs, **flagged)
        return sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(h), jax.tree.leaves(g), strict=True))

    def newton(*args, **options):
        return newton_scan(*args, window=8, method="interpret:tpu", **options)[0]

    ours = jax.jit(jax.grad(partial(loss, newton)))(inputs)
    close(ours, jax.jit(jax.grad(partial(loss, partial(cell_scan, method="sequential"))))(inputs))


@pytest.mark.parametrize("method", ["sequential", "auto"])
def test_without_the_kernel_every_window_is_stepped_through(method):
    step, *inputs, _ = problem("gru")
    h, stats = jax.jit(partial(newton_scan, step, window=16, method=method))(*inputs, **flags())
    assert np.array_equal(h, jax.jit(partial(cell_scan, step, method="sequential"))(*inputs, **flags()))
    assert jax.tree.map(lambda x: x.tolist(), stats) == ([0, 0], [0, 0], [6, 6])


def plain(p, h, u):
    return jnp.tanh(p * h + u)


def test_on_a_mesh_every_device_solves_its_part():
    given = random(0, 256), random(1, 2, 8, 256), random(2, 2, 256)
    run = partial(newton_scan, plain, method="interpret:tpu")
    alone = jax.jit(run)(*given)
    with jax.set_mesh(make_mesh((2, 1, 2, 1), jax.devices()[:4])):
        split = jax.jit(run)(*given)
    assert jax.tree.all(jax.tree.map(np.array_equal, split, alone))


def test_float32_is_float32_where_float64_is_allowed():
    with jax.enable_x64(True):
        h, stats = newton_scan(plain, random(0, 4), random(1, 1, 8, 4), method="interpret:tpu")
    assert h.dtype == stats.residual.dtype == jnp.float32
    assert stats.stepped == 0


WRONG = {
    "window must be a positive multiple of 8, got 12": {"window": 12},
    "window must be a positive multiple of 8, got 0": {"window": 0},
    "tolerance must be positive, got nan": {"tolerance": float("nan")},
    "max_iterations must be a positive int, got 0": {"max_iterations": 0},
    "method 'kernel' of newton_scan needs one of tpu, got cpu": {"method": "kernel"},
    "method must be one of auto, sequential, kernel:tpu, interpret:tpu, got 'fast'": {"method": "fast"},
    "h0 must have shape (2, 130)": {"h0": np.ones((2, 129), np.float32)},
    "u[0] must have shape (B T D), got (2, 130)": {"u": np.ones((2, 130), np.float32)},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    given = {"step": lambda p, h, u: h + u, "params": None, "u": np.ones((B, T, D), np.float32), **WRONG[message]}
    with pytest.raises(ValueError, match=re.escape(message)):
        newton_scan(**given)


def test_the_kernel_refuses_float64():
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match="'interpret:tpu' of newton_scan needs float32, got float64"),
    ):
        newton_scan(lambda p, h, u: h + u, None, jnp.ones((1, 8, 4)), method="interpret:tpu")
