"""cell_scan against lax.scan in float64: cells of one and two states, every method, values and gradients."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import cell_scan, linear_scan, reference
from jaxseq.ops.channelwise import make_program
from jaxseq.ops.kernels import cell_tpu, layout_tpu

METHODS = ("sequential", "interpret:tpu", "interpret:gpu")
B, T, D = 2, 11, 130  # no multiple of a tile


def gru(params, h, u):
    """One state, parameters sliced and an unused one beside them."""
    a_z, a_r, a_c = params["a"]
    z, r = jax.nn.sigmoid(a_z * h + u["z"]), jax.nn.sigmoid(a_r * h + u["r"])
    return (1 - z) * h + z * jnp.tanh(a_c * h * r + u["c"])


def lstm(params, state, u):
    """Two states, a parameter that is transformed, a scalar one, and functions of jax.nn that have their own rules."""
    c, h = state
    p = jax.nn.softplus(params["p"])
    f = jax.nn.sigmoid(p[0] * h + u[0] + params["shift"])
    c = f * c + jax.nn.relu(1 - f) * jnp.tanh(u[1] - p[1] * h)
    return c, jax.nn.silu(c) + jnp.where(u[1] > 0, h, 0.5 * h) / 2


def linear(params, h, u):
    """A decay that does not change with time."""
    return params * h + u


CELLS = {"gru": gru, "lstm": lstm, "linear": linear}


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.bfloat16).astype(np.float32)


@cache
def problem(name, batch=B, time=T, width=D):
    """params, u, h0 and a cotangent of h, exact in bfloat16."""
    u = [random(i, batch, time, width) for i in range(3)]
    h0, g = (tuple(random(s + i, batch, *n, width) for i in range(2)) for s, n in ((10, ()), (20, (time,))))
    if name == "gru":
        return {"a": random(30, 3, width), "w": random(31, 4, 4)}, dict(zip("zrc", u, strict=True)), h0[0], g[0]
    if name == "lstm":
        return {"p": random(30, 2, width), "shift": random(31)}, (u[0], u[1]), h0, g
    return np.tanh(random(30, width)).astype(jnp.bfloat16).astype(np.float32), u[0], h0[0], g[0]


def flags(batch=B, time=T):
    rng = np.random.default_rng(5)
    return {"reset": rng.random((batch, time)) < 0.25, "mask": rng.random((batch, time)) < 0.75}


def gradients(run, inputs, g):
    h, pull = jax.vjp(run, *inputs)
    return h, pull(g)


@cache
def expected(name, flagged=True, batch=B, time=T, width=D):
    *inputs, g = problem(name, batch, time, width)
    with jax.enable_x64(True):
        inputs, g = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (inputs, g))
        run = partial(reference.cell_scan, CELLS[name], **(flags(batch, time) if flagged else {}))
        return jax.tree.map(np.asarray, jax.jit(partial(gradients, run))(inputs, g))


def ours(name, method, flagged=True, batch=B, time=T, width=D):
    *inputs, g = problem(name, batch, time, width)
    run = partial(cell_scan, CELLS[name], method=method, **(flags(batch, time) if flagged else {}))
    return jax.jit(partial(gradients, run))(inputs, g)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *(("sequential", name) for name in CELLS),
        *((method, "lstm") for method in METHODS[1:]),
        *(pytest.param(method, name, marks=pytest.mark.slow) for method in METHODS[1:] for name in ("gru", "linear")),
    ],
)
def test_resets_masks_and_states_give_the_reference_s_values_and_gradients(method, name, close):
    close(ours(name, method), expected(name))


@pytest.mark.parametrize(("time", "width"), [(37, 130), (32, 1160)])
def test_blocks_of_time_and_channels_join_on_tpu(time, width, close, monkeypatch):
    monkeypatch.setattr(
        layout_tpu, "VMEM", 2**18
    )  # two groups of eight steps a block; the last one reaches over the end
    shape = {"flagged": False, "batch": 1, "time": time, "width": width}
    close(ours("linear", "interpret:tpu", **shape), expected("linear", **shape))


@pytest.mark.parametrize("method", METHODS[:1])
def test_reverse_runs_from_the_last_step(method, close):
    params, u, h0, _ = problem("gru")
    run = jax.jit(partial(cell_scan, gru, method=method), static_argnames="reverse")
    flip = partial(jax.tree.map, lambda x: x[:, ::-1])
    close(flip(run(params, flip(u), h0, reverse=True)), run(params, u, h0))


def test_two_halves_with_the_state_carried_are_the_whole(close):
    params, u, h0, _ = problem("lstm")
    run = jax.jit(partial(cell_scan, lstm, method="sequential"))
    whole = run(params, u, h0)
    first = run(params, jax.tree.map(lambda x: x[:, :4], u), h0)
    second = run(params, jax.tree.map(lambda x: x[:, 4:], u), jax.tree.map(lambda x: x[:, -1], first))
    close(jax.tree.map(lambda x, y: jnp.concatenate([x, y], 1), first, second), whole)


def test_a_linear_step_is_a_linear_scan(close):
    a, b, h0, _ = problem("linear")
    close(cell_scan(linear, a, b, h0), linear_scan(jnp.asarray(a)[None, None], b, h0))


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_stays_in_its_row_and_its_document(method):
    a, b, h0, _ = problem("linear")
    reset = np.zeros((B, T), bool)
    reset[1, 8] = True
    run = jax.jit(partial(cell_scan, linear, reset=reset, method=method))
    whole, poisoned = run(a, b, h0), run(a, jnp.asarray(b).at[1, 6].set(jnp.nan), h0)
    clean = np.ones((B, T), bool)
    clean[1, 6:8] = False
    assert np.array_equal(np.isfinite(poisoned).all(-1), clean)
    assert np.array_equal(poisoned[clean], whole[clean])


def test_gradients_reach_what_the_step_closes_over(close):
    a, b, h0, g = problem("linear")

    def loss(run, a):
        return jnp.sum(run(lambda _, h, u: jnp.tanh(a) * h + u, None, b, h0) * g)

    close(*(jax.jit(jax.grad(partial(loss, run)))(a) for run in (cell_scan, reference.cell_scan)))


def test_vmap_is_a_loop(close):
    params, u, h0, _ = problem("linear")
    rows = jax.jit(jax.vmap(lambda u: cell_scan(linear, params, u, h0, method="sequential")))(np.stack([u, 2 * u]))
    close(rows, jnp.stack([cell_scan(linear, params, x, h0, method="sequential") for x in (u, 2 * u)]))


ONES = np.ones((B, T, D), np.float32)
WRONG = {
    "step must act on every channel alone, with elementwise operations, got reduce_sum": {
        "step": lambda p, h, u: h + u - jnp.mean(h)
    },
    "step must act on every channel alone, with elementwise operations, got dot_general": {
        "step": lambda p, h, u: jnp.ones((D, D)) @ h + u
    },
    "step must act on every channel alone, with elementwise operations, got rev": {"step": lambda p, h, u: h[::-1] + u},
    "step must act on every channel alone, with elementwise operations, got cumsum": {
        "step": lambda p, h, u: jnp.cumsum(h) + u
    },
    "step must return a state like h": {"step": lambda p, h, u: (h, u)},
    "step must return one number a channel, shape (130,) like h, got ()": {"step": lambda p, h, u: 0.0},
    "u[0] must have shape (B T D), got (11, 130)": {"u": ONES[0]},
    "u[1] must have shape (B T D) with T = 11, got (2, 10, 130)": {"u": (ONES, ONES[:, 1:])},
    "u[0] must be real floating point, got dtype int32": {"u": ONES.astype(np.int32)},
    "u[0] must be real floating point, got dtype complex64": {"u": ONES.astype(np.complex64)},
    "h0 must be real floating point, got dtype complex64": {"h0": ONES[:, 0].astype(np.complex64)},
    "u must have at least one time step, got shape (2, 0, 130)": {"u": ONES[:, :0]},
    "u must have at least one array (B, T, D), got none": {"u": ()},
    "h0 must have shape (2, 130) (u without time), got (2, 129)": {"h0": ONES[:, 0, 1:]},
    "reset must be boolean, got dtype float32": {"reset": ONES[..., 0]},
    "mask must have shape (B T) with T = 11, got (2, 10)": {"mask": ONES[:, 1:, 0] > 0},
    "method must be one of auto, sequential": {"method": "fast"},
    "method 'kernel' of cell_scan needs one of tpu, gpu, got cpu": {"method": "kernel"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    given = {"step": lambda p, h, u: h + u, "params": None, "u": ONES, **WRONG[message]}
    with pytest.raises(ValueError, match=re.escape(message)):
        cell_scan(**given)


@pytest.mark.slow
def test_the_unrolled_tpu_kernel_is_the_one_with_loops(close):
    a, b, h0, g = problem("linear")
    program, tables = make_program(linear, a, h0, b, jnp.float32)

    def run(unroll):
        options = {"interpret": True, "unroll": unroll}
        h = cell_tpu.forward(program, tables, [b], [h0], None, **options)
        return h, cell_tpu.backward(program, tables, [b], [h0], None, h, [g], **options)

    close(jax.jit(run, static_argnums=0)(True), jax.jit(run, static_argnums=0)(False))
