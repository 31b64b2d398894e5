"""Auto takes one solver per platform and says why; the fused windows are a solver like the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.solvers import Auto, FusedNewton, Newton, Sequential, Status, explain, solve

PARA_GRU = CELLS["para_gru"](8, 8)


@pytest.mark.parametrize(
    ("cell", "batch", "platform", "taken"),
    [
        (PARA_GRU, 4, "cpu", "Sequential("),
        (PARA_GRU, 4, "tpu", "FusedNewton("),
        (PARA_GRU, 64, "tpu", "Sequential("),
        (PARA_GRU, 4, "gpu", "Newton("),
        (PARA_GRU, 4096, "gpu", "Sequential("),
        (CELLS["gru"](8, 8, heads=2), 4, "tpu", "Newton("),
        (CELLS["gru"](64, 64), 4, "tpu", "Sequential("),
    ],
)
def test_the_choice_and_its_reason_are_said(cell, batch, platform, taken):
    said = explain(cell, batch, 4096, platform)
    assert f"lanes on {platform}: {taken}" in said
    assert "timed" in said or "estimated" in said or "benchmark.py" in said


def test_an_unknown_platform_is_refused():
    with pytest.raises(ValueError, match="platform must be one of cpu, tpu, gpu, got 'abacus'"):
        explain(PARA_GRU, 1, 1, "abacus")


def problem():
    params = PARA_GRU.init(jax.random.key(0))
    return params, PARA_GRU.inputs(params, jax.random.normal(jax.random.key(1), (2, 40, 8)))


def test_it_gives_the_states_and_gradients_of_stepping(close):
    params, u = problem()
    run = lambda solver: jax.jit(jax.value_and_grad(lambda p: jnp.sum(solve(PARA_GRU, p, u, solver=solver).h)))  # noqa: E731
    close(run(Auto())(params), run(Sequential("loop"))(params))


def test_fused_windows_give_the_states_and_say_which_rows_are_bad(close):
    params, u = problem()
    u = jax.tree.map(lambda x: x.at[1, 20, 3].set(np.nan), u)
    exact = solve(PARA_GRU, params, u, solver=Sequential("loop"))
    fused = jax.jit(lambda p, u: solve(PARA_GRU, p, u, solver=FusedNewton(method="interpret:tpu")))(params, u)
    close(fused.h[0], exact.h[0])
    np.testing.assert_array_equal(fused.status, [Status.CONVERGED, Status.DIVERGED])
    np.testing.assert_array_equal(fused.exact_prefix, [40, 20])
    assert 1 <= int(fused.iterations[0]) <= 4


def test_fused_windows_refuse_cells_that_mix():
    cell = CELLS["gru"](8, 8)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match="FusedNewton needs a channelwise cell"):
        solve(cell, params, cell.inputs(params, jnp.ones((1, 4, 8))), solver=FusedNewton())


def test_fused_windows_refuse_a_tolerance_that_their_kernel_does_not_know():
    params, u = problem()
    with pytest.raises(ValueError, match="tolerance must be the solver's own for FusedNewton"):
        solve(PARA_GRU, params, u, solver=FusedNewton(), tolerance=1e-3)


def test_fused_windows_keep_to_their_budget():
    params, u = problem()
    found = jax.jit(lambda p, u: solve(PARA_GRU, p, u, solver=FusedNewton(max_iterations=1, method="interpret:tpu")))
    np.testing.assert_array_equal(found(params, u).status, [Status.FELL_BACK] * 2)


def test_what_it_steps_through_is_derived_without_jacobians():
    cell = CELLS["gru"](24, 24)
    params = cell.init(jax.random.key(0))
    u = cell.inputs(params, jnp.ones((2, 10, 24)))
    programs = [
        jax.jit(jax.grad(lambda p, s=solver: jnp.sum(solve(cell, p, u, solver=s).h))).lower(params).as_text()
        for solver in (Newton(), Auto())
    ]
    assert ["10x1x24x24" in text for text in programs] == [True, False]
