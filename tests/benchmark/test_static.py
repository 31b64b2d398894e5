"""The static benchmark: its errors, how it reads the compiler's dump, and (slow) its rows."""

import importlib.util
import platform
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxseq.benchmark import static_tpu
from jaxseq.benchmark.options import run
from jaxseq.benchmark.programs import programs
from jaxseq.compiled import chips

ON_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.mark.parametrize("name", ["v5e", "v9:2x2", "v5e:2x2x2x2", "a100", "v5e:2x2 "])
def test_an_unknown_topology_is_one_clear_line(name):
    with pytest.raises(ValueError, match=r"topology must be a chip \(v5e, v5p, v6e, h100, h200\).*got") as error:
        list(run("static", topology=name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "package"), [("v5e:2x2", r"\.\[test\]"), ("h100", "jax-cuda13-plugin")])
def test_a_missing_compiler_is_named_with_its_package(name, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"topology {name} needs .*, got none: pip install .*{package}"):
        list(run("static", topology=name))


def test_an_option_goes_only_to_a_benchmark_that_takes_it():
    with pytest.raises(ValueError, match="benchmark matmul must be run without --topology, got --topology=h100"):
        run("matmul", topology="h100", plot=None)


def test_an_unknown_benchmark_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"benchmark must be one of attention, .*static.*, got 'speed'"):
        run("speed")


def test_bytes_per_cycle_are_those_of_one_core():
    assert chips.CHIPS["v5e"].bytes_per_cycle == pytest.approx(546)
    assert chips.CHIPS["v5p"].bytes_per_cycle == pytest.approx(790)


def test_only_bundles_of_the_inner_loop_are_counted():
    lines = [
        "   0x1   :  { a }",
        "  0x3d   : > { b }",
        "  0x70 LB: >> { c }",
        "  0x71   : >> { d }",
        "  0x72 PF: > { e }",
    ]
    assert [bool(static_tpu.INNER.match(line)) for line in lines] == [False, False, True, True, False]


@pytest.mark.parametrize(("name", "forward", "backward"), [("cell_scan ParaGRU", 4, 8), ("linear_scan", 3, 5)])
def test_the_least_bytes_are_each_input_and_output_once(name, forward, backward):
    """ParaGRU reads 3 inputs and writes h; backward reads these, h and g and writes 3. b of h = a h + b is not read."""
    steps = 4 * 2 * 2048 * 256
    program = programs(2, 2048, 256)[name]
    for direction, arrays in (("forward", forward), ("backward", backward)):
        assert arrays * steps < program.least_bytes(direction) < (arrays + 0.01) * steps


def test_the_two_state_step_is_a_convex_combination_in_its_cell():
    one = jnp.ones(3)
    c, h = programs(1, 1, 3)["cell_scan two states"].function.args[0](
        [0 * one] * 3, (2 * one, one), (0 * one, 0.5 * one, 0 * one)
    )
    assert jnp.allclose(c, 1 + 0.5 * jnp.tanh(0.5))
    assert jnp.allclose(h, 0.5 * jnp.tanh(c))


@pytest.mark.slow
@pytest.mark.skipif(not ON_LINUX, reason="libtpu is for Linux on x86-64 only")
def test_static_prints_a_row_for_every_kernel_direction_and_sharded_scan():
    rows = list(run("static", topology="v5e:2x2"))
    kernels = [row for row in rows if row.get("method") == "kernel:tpu"]
    assert len(kernels) == 2 * len(programs(1, 8, 128))
    assert all(0 < row["compute_over_hbm"] < 1 for row in kernels)
    assert all(row["bytes_over_minimum"] > 4 for row in rows if row.get("method") == "associative")
    scans = {row["scan"] for row in rows if "scan" in row}
    assert {"linear_scan", "delta_rule", "lax.associative_scan"} <= scans
    assert jax.devices()[0].platform == "cpu"
