"""The accelerators that programs are compiled for on a machine that has none, and what the compilers need for that."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies  # the only way to compile for devices that are not there


@dataclass(frozen=True)
class Chip:
    """A TPU chip.

    Attributes:
      clock: GHz.
      bandwidth: of HBM, GB/s.
      cores: that share it.
      peak: of bfloat16 products, TFLOP/s.
      memory: HBM that the compiler gives to a program, GiB.
      link: to other chips of its slice over all links, GB/s in each direction.
    """

    clock: float
    bandwidth: float
    cores: int
    peak: float
    memory: float
    link: float

    @property
    def bytes_per_cycle(self) -> float:
        """HBM bytes that one core gets in a cycle when all cores ask."""
        return self.bandwidth / self.cores / self.clock


# Bandwidths, cores, peaks and links (half of the bidirectional figure) are from cloud.google.com/tpu/docs. No clock is
# published: it is the peak over 2 · side² · units FLOP a cycle, for 4 matrix units of 128², 8 of 128² and 4 of 256². Of
# v6e that page has said 2 units as well as 4; with 2 the clock would be 3.5 GHz. The memory is what libtpu 0.0.52 names
# when it refuses a program.
CHIPS = {
    "v5e": Chip(1.5, 819, 1, peak=197, memory=15.75, link=200),
    "v5p": Chip(1.75, 2765, 2, peak=459, memory=95.73, link=600),
    "v6e": Chip(1.75, 1640, 1, peak=918, memory=31.24, link=400),
}

# libtpu asks a metadata server about the machine unless told; any accelerator type serves for all topologies.
TPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
}
GPU_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}

# Of the SXM boards: memory (bytes), its bandwidth (bytes/s), name. The chip itself is the same.
GPUS = {
    "h100": (84_942_979_072, 3_352_320_000_000, "NVIDIA H100 80GB HBM3"),
    "h200": (150_754_820_096, 4_800_000_000_000, "NVIDIA H200"),
}
# What the compiler would ask the driver, in its text format.
GPU_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  clock_rate_ghz: 1.98
  l2_cache_size: 52428800
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth}
  cuda_compute_capability {{ major: 9 minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 13 minor: 0 }}
device_description_str: "{name}"
"""


def check_topology(name: str) -> None:
    """Raises ValueError unless `name` is a GPU of `GPUS`, or a TPU chip and its layout, v5e:2x2, and its compiler is
    installed.
    """
    if name not in GPUS and not re.fullmatch(rf"({'|'.join(CHIPS)}):\d+x\d+(x\d+)?", name):
        known = ", ".join((*CHIPS, *GPUS))
        raise ValueError(f"topology must be a chip ({known}) with, for a TPU, its layout: v5e:2x2; got {name!r}")
    if name in GPUS and importlib.util.find_spec("jax_cuda13_plugin") is None:
        package = f"jax-cuda13-plugin[with-cuda]=={jax.__version__}"
        raise ValueError(f"topology {name} needs CUDA's compiler, got none: pip install '{package}'")
    if name not in GPUS and importlib.util.find_spec("libtpu") is None:
        raise ValueError(f"topology {name} needs libtpu, got none: pip install -e '.[test]' (Linux x86-64 only)")


def devices(name: str, slices: int = 1) -> Any:
    """The devices of a topology, to put in shardings and meshes; nothing can run on them. Of a TPU there may be several
    slices of that layout, joined by a network.

    The environment (`TPU_ENVIRONMENT`, `GPU_ENVIRONMENT`) must be set before. Raises ValueError for a name that
    `check_topology` refuses or the compiler does not know.
    """
    check_topology(name)
    try:
        if name not in GPUS:
            several = {"num_slices": slices} if slices > 1 else {}
            return topologies.get_topology_desc(platform="tpu", topology_name=name, **several).devices
        memory, bandwidth, text = GPUS[name]
        target = GPU_TARGET.format(memory=memory, bandwidth=bandwidth, name=text)
        return topologies.get_topology_desc(name, "cuda", target_config=target, topology="1x1x1").devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"topology must be one that the compiler knows, got {name!r}: {error}") from error
