"""Newton with time split over devices: what one device finds, with h0, flags, certificates and gradients."""

import platform
import re
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.benchmark.time_split import compile_split
from jaxseq.cells import CELLS
from jaxseq.compiled import chips, hlo
from jaxseq.sharding import make_mesh
from jaxseq.solvers import Newton, Sequential, Status, solve

B, T, D = 2, 32, 4
SHARDED = Newton(method="sharded")


@cache
def problem(name, **options):
    cell, rng = CELLS[name](D, D, **options), np.random.default_rng(0)
    params = cell.init(jax.random.key(0))
    u = cell.inputs(params, jnp.asarray(rng.normal(size=(B, T, D)), np.float32))
    h0 = cell.project(jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), cell.init_state(B)))
    flags = {"reset": jnp.asarray(rng.random((B, T)) < 0.1), "mask": jnp.asarray(rng.random((B, T)) < 0.8)}
    return cell, (params, u, h0), flags


@cache
def gradients(solver, name, **options):
    cell, args, flags = problem(name, **options)

    def loss(*args):
        solution = solve(cell, *args, solver=solver, **flags)
        leaves = jax.tree.leaves((solution.h, solution.final))
        return sum(jnp.sum(jnp.sin(x)) for x in leaves), solution

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True)), args


def mesh(data=2, seq=4):
    return make_mesh((data, 1, 1, seq), jax.devices()[: data * seq])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("para_gru", {}),
        pytest.param("lstm", {"recurrent": "diagonal"}, marks=pytest.mark.slow),
        pytest.param("lstm", {"heads": 2}, marks=pytest.mark.slow),
    ],
)
def test_it_is_what_one_device_finds(name, options, close):
    run, args = gradients(Newton(), name, **options)
    (_, whole), gradient = run(*args)
    split, args = gradients(SHARDED, name, **options)
    with jax.set_mesh(mesh()):
        (_, parts), same = split(*args)
    close(jax.tree.leaves((parts.h, parts.final, same)), jax.tree.leaves((whole.h, whole.final, gradient)))
    np.testing.assert_array_equal(parts.status, [Status.CONVERGED] * B)
    np.testing.assert_array_equal(parts.exact_prefix, [T] * B)
    np.testing.assert_array_equal(parts.iterations, whole.iterations)


def test_what_does_not_converge_is_stepped_through_device_by_device(close):
    cell, (params, u, h0), flags = problem("para_gru")
    hard = dict(params, a=8 * jnp.asarray(np.random.default_rng(3).normal(size=(3, D)), np.float32))
    flags = dict(flags, mask=flags["mask"].at[1, 5].set(True))
    u = jax.tree.map(lambda x: x.at[1, 5, 0].set(np.nan), u)
    run = jax.jit(partial(solve, cell, solver=Newton(method="sharded", max_iterations=2)))
    with jax.set_mesh(mesh()):
        solution = run(hard, u, h0, **flags)
    exact = solve(cell, hard, u, h0, solver=Sequential("loop"), **flags)
    np.testing.assert_array_equal(solution.status, [Status.FELL_BACK, Status.DIVERGED])
    np.testing.assert_array_equal(solution.exact_prefix, exact.exact_prefix)
    close(solution.h[0], exact.h[0])


def test_what_does_not_converge_at_once_is_solved_device_by_device(close):
    cell, (params, u, h0), _ = problem("para_gru")
    hard = dict(params, a=4 * jnp.asarray(np.random.default_rng(4).normal(size=(3, D)), np.float32))
    once, helped = (Newton(method="sharded", max_iterations=6, on_failure=f) for f in ("return", "sequential"))
    run = jax.jit(lambda solver: solve(cell, hard, u, h0, solver=solver), static_argnums=0)
    with jax.set_mesh(mesh()):
        alone, found = run(once), run(helped)
    assert not bool(jnp.any(alone.converged))
    np.testing.assert_array_equal(found.status, [Status.CONVERGED] * B)
    assert bool(jnp.all(found.iterations > alone.iterations))
    close(found.h, solve(cell, hard, u, h0, solver=Sequential("loop")).h)


def test_devices_that_do_not_divide_time_are_refused():
    cell, (params, u, h0), _ = problem("para_gru")
    short = jax.tree.map(lambda x: x[:, :30], u)
    with jax.set_mesh(mesh()), pytest.raises(ValueError, match="T must divide by 4, the devices of the mesh axis seq"):
        solve(cell, params, short, h0, solver=SHARDED)


@pytest.fixture
def absent_chips(monkeypatch):
    """Set before libtpu is loaded. JAX cannot read programs for absent devices back from its cache."""
    for name, value in chips.TPU_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="libtpu is for Linux on x86-64")
@pytest.mark.parametrize("topology", ["v5e:4x4", "v5p:2x2x4"])
@pytest.mark.usefixtures("absent_chips")
def test_on_sixteen_chips_what_travels_does_not_grow_with_time(topology):
    cell = CELLS["para_gru"](256, 256)

    def layer(x):
        params = cell.init(jax.random.key(0))
        return solve(cell, params, cell.inputs(params, x), solver=SHARDED).h

    texts = [compile_split(layer, chips.devices(topology), [(1, time, 256)]).as_text() for time in (2048, 4096)]
    once, twice = map(hlo.collectives, texts)
    assert once == twice
    assert sum(x["count"] for x in once.values()) <= 9
    assert all(1 <= count <= 2 for count in exchanges_in_loops(texts[0]))


def exchanges_in_loops(text):
    """How many collectives each loop body has that has any, and at least one loop that has."""
    bodies = [text[text.index(f"\n%{name} ") :] for name in set(re.findall(r"body=%([\w.\-]+)", text))]
    found = [hlo.collectives(body[: body.index("\n}")]) for body in bodies]
    counts = [sum(x["count"] for x in each.values()) for each in found if each]
    assert counts
    return counts
