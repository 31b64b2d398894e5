"""The chunk kernels of matrix states compiled for TPUs that are not there: what they move and allocate."""

import platform
import sys
from itertools import product

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from jaxseq.benchmark import static_matrix
from jaxseq.compiled import chips, hlo

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="libtpu is for Linux on x86-64 only"
)
TOPOLOGIES = "v5e:2x2", "v5p:2x2x1", "v6e:2x2"


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


PROGRAMS = static_matrix.programs()
DEFAULT = "linear_attention", "forward and backward", "v5e:2x2"
CASES = [
    pytest.param(*case, marks=() if case == DEFAULT else pytest.mark.slow)
    for case in product(PROGRAMS, static_matrix.DIRECTIONS, TOPOLOGIES)
]


@pytest.mark.parametrize(("name", "direction", "topology"), CASES)
def test_a_pass_moves_every_byte_once_and_allocates_the_states_before_all_chunks(name, direction, topology):
    sharding = SingleDeviceSharding(chips.devices(topology)[0])
    traced, least = static_matrix.trace(PROGRAMS[name], "kernel:tpu", direction, sharding)
    program = traced.lower().compile()
    assert hlo.moved_bytes(program.as_text(), traced.jaxpr.jaxpr) <= 1.1 * least["bytes_minimum"]
    # The first state, zero here, and numbers of a step and head, laid out anew, are small beside (B, T, H, K).
    allocated = program.memory_analysis().temp_size_in_bytes - least["states_bytes"] // 2
    assert allocated <= 0.04 * least["bytes_minimum"]  # v5p lays out more of them


@pytest.mark.parametrize("name", PROGRAMS)
def test_auto_is_the_kernel_where_a_program_is_compiled_for_tpu(name):
    sharding = SingleDeviceSharding(chips.devices("v5e:2x2")[0])
    traced, _ = static_matrix.trace(PROGRAMS[name], "auto", "forward and backward", sharding)
    assert traced.lower().as_text().count(hlo.KERNEL) == 2
