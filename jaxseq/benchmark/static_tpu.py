"""Kernels compiled for a TPU: python -m jaxseq.benchmark.static_tpu TOPOLOGY DUMP, run by `static`.

With an empty DUMP what they move, else how long their inner loops are; libtpu must have been told to dump there.

Fields: `bytes_moved` is what HBM reads and writes, `bytes_minimum` every input the direction needs and every output
once, `temporary_bytes` what the program allocates beside them. The compiler's final bundles (one VLIW instruction, one
cycle if nothing stalls) of the kernel's inner loop give `bundles_per_step_and_tile`: a tile is 8 x 128 channels, one
vector register. `hbm_cycles_per_step_and_tile` is the time HBM takes for its share of `bytes_moved`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.sharding import SingleDeviceSharding

from jaxseq.benchmark.programs import DIRECTIONS, Program, programs
from jaxseq.compiled.chips import CHIPS, devices
from jaxseq.compiled.hlo import block_shape, kernels, moved_bytes

SHAPE = 4, 2048, 2048
TILE = 8 * 128
INNER = re.compile(r"\s*0x[0-9a-f]+\s.*?: >>")  # a bundle of a loop inside the loop over the grid


def rows(topology: str) -> Iterator[dict[str, Any]]:
    """One per program, method and direction."""
    device = devices(topology)[0]
    for name, program in programs(*SHAPE).items():
        for method in program.methods:
            for direction in DIRECTIONS:
                head = {"benchmark": "static", "kernel": name, "method": method, "direction": direction}
                head |= {"shape": list(SHAPE), "dtype": "float32", "topology": topology}
                yield {**head, "device_kind": device.device_kind, **_row(program, method, direction, device)}


def _row(program: Program, method: str, direction: str, device: Any) -> dict[str, Any]:
    traced = program.trace(direction, method, SingleDeviceSharding(device))
    lowered, began = traced.lower(), time.perf_counter()
    compiled = lowered.compile()
    passed = time.perf_counter() - began
    moved, least = moved_bytes(compiled.as_text(), traced.jaxpr.jaxpr), program.least_bytes(direction)
    return {
        "compile_seconds": round(passed, 2),
        "bytes_moved": moved,
        "bytes_minimum": least,
        "bytes_over_minimum": round(moved / least, 3),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def cycles(topology: str, dump: Path) -> Iterator[dict[str, Any]]:
    """One per kernel and direction, from the bundles that the compiler writes to the folder `dump`."""
    for name, program in programs(*SHAPE).items():
        for direction in DIRECTIONS:
            before = set(dump.iterdir())
            traced = program.trace(direction, "kernel:tpu", SingleDeviceSharding(devices(topology)[0]))
            text, jaxpr = traced.lower().compile().as_text(), traced.jaxpr.jaxpr
            files = set(dump.iterdir()) - before
            found = _cycles(kernels(text, jaxpr)[0], files, moved_bytes(text, jaxpr), topology)
            yield {"kernel": name, "method": "kernel:tpu", "direction": direction, **found}


def _cycles(grid: Any, files: set[Path], moved: int, topology: str) -> dict[str, float]:
    (file,) = [x for x in files if re.search(r"cell_\w*[.\d]*-\d+-final_bundles\.txt", x.name)]
    rows, _, registers, _ = max((block_shape(x) for x in grid.block_mappings), key=len)
    steps_and_tiles = rows * registers // 8  # that one turn of the loop covers: 8 steps of groups of 128 channels
    bundles = sum(bool(INNER.match(line)) for line in file.read_text().splitlines()) / steps_and_tiles
    chip = CHIPS[topology.split(":")[0]]
    memory = moved / (SHAPE[0] * SHAPE[1] * SHAPE[2] / TILE) / chip.bytes_per_cycle
    return {
        "bundles_per_step_and_tile": round(bundles, 2),
        "hbm_cycles_per_step_and_tile": round(memory, 2),
        "compute_over_hbm": round(bundles / memory, 2),
    }


if __name__ == "__main__":
    topology, dump = sys.argv[1:]
    for row in cycles(topology, Path(dump)) if dump else rows(topology):
        print(json.dumps(row), flush=True)
