"""What "auto" takes, and that `explain` says it."""

import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxseq import ops
from jaxseq.ops import choice, linear_attention, linear_scan
from jaxseq.ops.choice import METHODS, choose, dispatch, explain
from jaxseq.ops.measured import ROWS, UNTIMED, Row

B, T, H, K, V, D = 1, 8, 1, 2, 2, 2
MATRIX = (B, T, H, V, K)
FOUND = "cpu x 1", "2026-01-01", "python measure"


def arrays(*shapes):
    return [jnp.full(shape, 0.5) for shape in shapes]


def vectors(*names):
    return {name: jnp.full((B, T, H, K), 0.5) for name in names}


def tokens(*names):
    return {name: jnp.full((B, T, H), -0.5) for name in names}


def decayed(params, h, u):
    return params * h + u


QKV = vectors("q", "k", "v")
CALLS = {  # per op, the shape that its method is chosen by, and a call
    "linear_scan": ((B, T, D), partial(linear_scan, *arrays((B, T, D), (B, T, D)))),
    "log_linear_scan": ((B, T, D), partial(ops.log_linear_scan, *arrays((B, T, D), (B, T, D)))),
    "block_scan": ((B, T, H, K), partial(ops.block_scan, *arrays((B, T, H, K, K), (B, T, H, K)))),
    "cell_scan": ((B, T, D), partial(ops.cell_scan, decayed, *arrays((D,), (B, T, D)))),
    "linear_attention": (MATRIX, partial(linear_attention, **QKV)),
    "delta_rule": (MATRIX, partial(ops.delta_rule, **QKV, **tokens("beta"))),
    "dplr_attention": (MATRIX, partial(ops.dplr_attention, **QKV, **vectors("a", "b"))),
    "exponential_attention": (
        (*MATRIX[:3], V + 1, K),
        partial(ops.exponential_attention, **QKV, **tokens("log_a", "log_i")),
    ),
    "softmax_scan": ((B, T, H), partial(ops.softmax_scan, **tokens("s"), v=QKV["v"])),
}


def rows(*measured):
    return tuple(Row("linear_scan", "varying", "cpu", shape, "float32", ratios, *FOUND) for shape, ratios in measured)


@pytest.fixture
def two_shapes(monkeypatch):
    """Measurements of linear_scan on CPU where the small shape and the large one have different winners."""
    small, large = {"sequential": 1.0, "associative": 3.0}, {"sequential": 2.0, "chunked": 1.0, "associative": 9.0}
    monkeypatch.setattr(choice, "ROWS", rows(((2, 16, 4), small), ((2, 4096, 4), large)))


def passed_to_dispatch(monkeypatch, call):
    """(op, shape, names of the methods) of every dispatch that a call makes."""
    seen = []

    def recorded(op, method, methods, shape, **options):
        seen.append((op, tuple(shape), set(methods)))
        return dispatch(op, method, methods, shape, **options)

    for name, module in tuple(sys.modules.items()):
        if name.startswith("jaxseq.ops.") and getattr(module, "dispatch", None) is dispatch:
            monkeypatch.setattr(module, "dispatch", recorded)
    jax.make_jaxpr(call)()
    return seen


def test_the_method_is_the_fastest_one_at_the_nearest_shape(two_shapes):
    assert choose("linear_scan", (2, 8, 4), "cpu", METHODS["linear_scan"]) == "sequential"
    assert choose("linear_scan", (2, 2048, 4), "cpu", METHODS["linear_scan"]) == "chunked"


def test_what_the_op_has_not_got_is_not_taken(two_shapes):
    assert choose("linear_scan", (2, 4096, 4), "cpu", ("associative", "sequential")) == "sequential"


def test_axes_that_were_measured_as_one_count_as_their_product(monkeypatch):
    measured = rows(((2, 16, 4), {"sequential": 1.0}), ((2, 16, 64), {"associative": 1.0}))
    monkeypatch.setattr(choice, "ROWS", measured)
    assert choose("linear_scan", (2, 16, 8, 8), "cpu", METHODS["linear_scan"]) == "associative"
    assert choose("linear_scan", (2, 16), "cpu", METHODS["linear_scan"]) == "sequential"


def test_of_several_measurements_at_one_shape_the_worst_ratio_decides(monkeypatch):
    shape, first = (2, 16, 4), {"sequential": 1.0, "associative": 1.2}
    monkeypatch.setattr(choice, "ROWS", rows((shape, first), (shape, {"sequential": 5.0, "associative": 1.0})))
    assert choose("linear_scan", shape, "cpu", METHODS["linear_scan"]) == "associative"


def test_a_difference_within_noise_does_not_part_the_platforms(monkeypatch):
    for associative, wanted in ((1.09, "associative"), (1.11, "sequential")):
        monkeypatch.setattr(choice, "ROWS", rows(((2, 16, 4), {"sequential": 1.0, "associative": associative})))
        assert choose("linear_scan", (2, 16, 4), "cpu", METHODS["linear_scan"]) == wanted


def test_a_measurement_outweighs_the_kernel_that_would_be_taken_without_one(monkeypatch):
    assert choose("linear_scan", (2, 16, 4), "tpu", METHODS["linear_scan"]) == "kernel:tpu"
    timed = rows(((2, 16, 4), {"kernel:tpu": 1.5, "chunked": 1.0}))[0]._replace(platform="tpu")
    monkeypatch.setattr(choice, "ROWS", (timed,))
    assert choose("linear_scan", (2, 16, 4), "tpu", METHODS["linear_scan"]) == "chunked"


@pytest.mark.parametrize("op", METHODS)
@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_what_was_not_timed_runs_the_kernel_of_its_platform_or_matmuls_or_in_log_depth(op, platform, monkeypatch):
    monkeypatch.setattr(choice, "ROWS", ())
    kernel = f"kernel:{platform}"
    wanted = kernel if kernel in METHODS[op] else UNTIMED[op]
    assert choose(op, (2, 16, 4), platform, METHODS[op]) == wanted
    assert choose(op, (2, 16, 4), platform, ("sequential", UNTIMED[op])) == UNTIMED[op]


def test_an_empty_axis_has_a_nearest_shape(two_shapes):
    assert choose("linear_scan", (0, 2048, 4), "cpu", METHODS["linear_scan"]) == "chunked"


@pytest.mark.parametrize("op", CALLS)
def test_the_methods_listed_are_those_that_the_op_has(op: str, monkeypatch):
    shape, call = CALLS[op]
    runs = choice.MADE_OF.get(op, op)
    seen = [(there, names) for name, there, names in passed_to_dispatch(monkeypatch, call) if name == runs]
    own = {name for _, names in seen for name in names if not name.startswith("interpret:")}
    assert own == set(METHODS[runs])
    assert shape in [there for there, _ in seen]


@pytest.mark.parametrize("op", CALLS)
def test_platforms_may_take_different_methods(op, monkeypatch, close):
    runs = choice.MADE_OF.get(op, op)
    ratios = {"sequential": 1.0} | {name: 2.0 for name in METHODS[runs] if name != "sequential"}
    monkeypatch.setattr(choice, "ROWS", (Row(runs, "any", "cpu", (B, T, D), "float32", ratios, *FOUND),))
    assert choose(runs, CALLS[op][0], "cpu", METHODS[runs]) == "sequential"
    close(CALLS[op][1](), CALLS[op][1](method="sequential"))


def program(call, method):
    """What XLA makes of a call, without where in the source it comes from."""
    text = jax.jit(partial(call, method=method)).lower().compile().as_text() or ""
    return [line.split(", metadata=")[0] for line in text.splitlines() if " = " in line]


@pytest.mark.parametrize("op", ["linear_scan", "linear_attention", "delta_rule", "cell_scan"])
def test_auto_compiles_to_the_method_that_explain_names(op):
    shape, call = CALLS[op]
    named = explain(op, shape, "cpu").splitlines()[0].split(": ")[1]
    assert program(call, "auto") == program(call, named)


def test_auto_takes_this_platform_s_method_outside_of_jit_too(monkeypatch):
    monkeypatch.setattr(choice, "ROWS", rows(((1, 1, 1), {"sequential": 1.0})))
    run = dispatch("linear_scan", "auto", {"sequential": jnp.cos, "associative": jnp.sin}, (1, 1, 1))
    assert run(0.0) == 1.0


def test_one_method_for_all_platforms_makes_no_branches(monkeypatch):
    monkeypatch.setattr(choice, "ROWS", rows(((1, 1, 1), {"associative": 1.0})))
    methods = {"sequential": jnp.cos, "associative": jnp.sin}
    assert dispatch("linear_scan", "auto", methods, (1, 1, 1)) is jnp.sin


def test_the_measurement_that_decided_is_told(two_shapes):
    told = explain("linear_scan", (2, 4096, 2, 2), "cpu")
    assert told.splitlines() == [
        "linear_scan at (2, 4096, 2, 2) on cpu: chunked",
        "  chunked 1, sequential 2, associative 9 (times over the fastest) at (2, 4096, 4) float32 varying, "
        "cpu x 1, 2026-01-01: python measure",
    ]


def test_what_was_not_timed_is_told():
    told = explain("softmax_scan", (2, 16, 4), "tpu")
    assert told.splitlines() == [
        "softmax_scan (made of linear_scan) at (2, 16, 4) on tpu: kernel:tpu",
        "  compiled, not timed: no measurement on this platform",
    ]


def test_bytes_that_were_counted_are_not_told_as_times():
    told = explain("exponential_attention", MATRIX, "tpu").splitlines()
    assert told[0] == f"exponential_attention (made of linear_attention) at {MATRIX} on tpu: kernel:tpu"
    assert "kernel:tpu 1, chunked 1.58 (bytes over the fewest)" in told[1]
    assert "TPU v5e, compiled and not run" in told[1]


def test_the_platform_is_the_one_in_use_if_none_is_named():
    assert explain("linear_scan", (8, 2048, 512)) == explain("linear_scan", (8, 2048, 512), jax.default_backend())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.op}-{row.platform}-{row.variant}-{row.shape}")
def test_a_measurement_is_of_methods_that_there_are_and_its_fastest_is_one(row):
    assert set(row.ratios) <= set(METHODS[row.op])
    assert row.platform in choice.PLATFORMS
    assert min(row.ratios.values()) == 1.0


@pytest.mark.parametrize("op", METHODS)
def test_every_op_has_been_measured_on_cpu_by_all_its_methods_there(op):
    here = [name for name in METHODS[op] if ":" not in name]
    measured = [row for row in ROWS if (row.op, row.platform) == (op, "cpu")]
    assert len(here) == 1 or op == "matrix_scan" or any(set(row.ratios) == set(here) for row in measured)


WRONG = {
    "op must be one of linear_scan, block_scan, ": ("scan", (2, 16, 4), "cpu"),
    "platform must be one of cpu, tpu, gpu, got 'cuda'": ("linear_scan", (2, 16, 4), "cuda"),
    "shape must have the axes B and T at least, got (2,)": ("linear_scan", (2,), "cpu"),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_explain_does_not_know_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        explain(*WRONG[message])


def test_a_method_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="method must be one of auto, a, b, got 'c'"):
        dispatch("linear_scan", "c", {"a": jnp.sin, "b": jnp.cos}, (1, 1, 1))
