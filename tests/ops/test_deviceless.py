"""Kernels and sharded scans compiled for TPUs and GPUs that are not there: what they move, allocate and exchange."""

import importlib.util
import platform
import sys
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxseq import ops
from jaxseq.benchmark.programs import DIRECTIONS, Program, place, programs
from jaxseq.benchmark.time_split import SCANS, split_scan
from jaxseq.compiled import chips, hlo
from jaxseq.ops.newton_scan import newton_scan
from jaxseq.sharding import make_mesh

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="libtpu is for Linux on x86-64 only"
)
TOPOLOGIES = "v5e:2x2", "v5p:2x2x1", "v6e:2x2"
SHAPE = B, T, D = 4, 2048, 2048


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def flagged(params, u, h0, reset, mask, method):
    step = programs(B, T, D)["cell_scan two states"].function
    return step(params, u, h0, reset=reset, mask=mask, method=method)


def user_step(params, h, u):
    """A cell of a user's own: two states, one of them a running mean that gates the other."""
    fast, mean = h
    gate = jax.nn.sigmoid(params["w"] * mean + u["gate"])
    fast = gate * fast + (1 - gate) * jnp.sin(u["x"] + params["v"] * fast)
    return fast, 0.9 * mean + 0.1 * jnp.abs(fast)


KERNELS = programs(*SHAPE)
TWO = KERNELS["cell_scan two states"]
FLAGS = array(B, T, dtype=bool)
KERNELS["cell_scan two states with flags"] = Program(flagged, (*TWO.args, FLAGS, FLAGS), (False,) * 5)
BLOCKS = Program(
    ops.block_scan, (array(1, 128, 256, 2, 2), array(1, 128, 256, 2), array(1, 256, 2)), (False, True, False)
)
USER = Program(
    partial(ops.cell_scan, user_step),
    ({"w": array(D), "v": array(D)}, {"gate": array(B, T, D), "x": array(B, T, D)}, (array(B, D), array(B, D))),
    (False,) * 3,
)
# Eight steps before each block of time are read again; of two states a block has 32 steps: half of 2 in 10 arrays / 4.
MOST = {"cell_scan two states": 1.06, "cell_scan two states with flags": 1.06}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """Set before libtpu is loaded. JAX writes programs for absent devices to its cache but cannot read them back."""
    keep = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chips.TPU_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", keep)


def compiled(program, direction, topology, method="kernel:tpu"):
    traced = program.trace(direction, method, SingleDeviceSharding(chips.devices(topology)[0]))
    return traced.lower().compile(), traced.jaxpr.jaxpr


def slow_unless(default, *values):
    return pytest.param(*values, marks=() if default else pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        slow_unless("v5e" in chip and ("flags" in name or name == "linear_scan"), name, chip)
        for name in KERNELS
        for chip in TOPOLOGIES
    ],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_kernel_moves_every_byte_once_and_allocates_nothing(name, direction, topology):
    program, jaxpr = compiled(KERNELS[name], direction, topology)
    least = KERNELS[name].least_bytes(direction)
    assert hlo.moved_bytes(program.as_text(), jaxpr) <= MOST.get(name, 1.05) * least
    # Tables, flags and states (B, D) may be laid out anew; one array with time and channels would be a tenth.
    assert program.memory_analysis().temp_size_in_bytes <= 0.001 * least


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_block_scan_compiles(topology):
    for direction in DIRECTIONS:
        program, _ = compiled(BLOCKS, direction, topology)
        assert hlo.KERNEL in program.as_text()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_cell_of_ones_own_compiles_for_tpu(direction):
    program, _ = compiled(USER, direction, "v5e:2x2")
    assert hlo.KERNEL in program.as_text()
    assert program.memory_analysis().temp_size_in_bytes == 0


def test_newton_in_registers_moves_every_byte_once_and_allocates_nothing():
    steps, state = array(4, 2048, 256), array(4, 256)
    params, u = {"w": array(256), "v": array(256)}, {"gate": steps, "x": steps}
    newton = Program(partial(newton_scan, user_step), (params, u, (state, state)), (False,) * 3)
    program, jaxpr = compiled(newton, "forward", "v5e:2x2")
    assert hlo.moved_bytes(program.as_text(), jaxpr) <= 1.01 * newton.least_bytes("forward")
    assert program.memory_analysis().temp_size_in_bytes <= 0.001 * newton.least_bytes("forward")  # stats by channel


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_cell_of_ones_own_lowers_for_cuda(direction):
    traced = USER.trace(direction, "kernel:gpu", None)
    assert "__gpu$xla.gpu.triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="jax-cuda13-plugin is not installed")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_cell_of_ones_own_compiles_for_sm_90(direction, monkeypatch):
    for name, value in chips.GPU_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    program, _ = compiled(USER, direction, "h100", "kernel:gpu")
    assert program.memory_analysis().temp_size_in_bytes <= 0.001 * USER.least_bytes(direction)  # sums of each row


@pytest.mark.parametrize("name", [slow_unless(name == "linear_scan", name) for name in SCANS])
def test_a_scan_over_16_chips_exchanges_as_much_for_twice_the_length(name):
    once, twice = (hlo.collectives(split_scan(name, chips.devices("v5e:4x4"), t).as_text()) for t in (2048, 4096))
    assert 2 <= sum(x["count"] for x in once.values()) <= 4
    assert once == twice


@pytest.mark.parametrize("method", ["auto", "kernel:tpu"])
def test_a_cell_on_a_mesh_of_rows_and_channels_exchanges_nothing(method):
    mesh = make_mesh((2, 1, 2, 1), list(chips.devices("v5e:2x2")))
    params, u, h0 = KERNELS["cell_scan ParaGRU"].args
    split = (
        place(params, NamedSharding(mesh, PartitionSpec(None, "tensor"))),
        place(u, NamedSharding(mesh, PartitionSpec("data", None, "tensor"))),
        place(h0, NamedSharding(mesh, PartitionSpec("data", "tensor"))),
    )
    with jax.set_mesh(mesh):
        run = jax.jit(partial(KERNELS["cell_scan ParaGRU"].function, method=method))
        program = run.lower(*split).compile()
    assert hlo.KERNEL in program.as_text() or method == "auto"
    assert hlo.collectives(program.as_text()) == {}
