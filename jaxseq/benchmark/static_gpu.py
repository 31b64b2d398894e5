"""Kernels compiled for an NVIDIA GPU: python -m jaxseq.benchmark.static_gpu TOPOLOGY DUMP, run by `static`.

Fields: `registers` of a thread, `spill_bytes` it stores and loads in memory because it has too few, `shared_bytes` of a
block, from `ptxas -v` on the PTX that XLA wrote to DUMP; `temporary_bytes` as for TPU. The least possible bytes are
given too; what caches do is not known without running.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.sharding import SingleDeviceSharding

from jaxseq.benchmark.programs import DIRECTIONS, programs
from jaxseq.compiled.chips import devices

SHAPE = 4, 2048, 2048
TARGET = "sm_90a"


def rows(topology: str, dump: Path) -> Iterator[dict[str, Any]]:
    """One per program and direction."""
    device = devices(topology)[0]
    for name, program in programs(*SHAPE).items():
        for direction in DIRECTIONS:
            before = set(dump.iterdir())
            lowered, began = (
                program.trace(direction, "kernel:gpu", SingleDeviceSharding(device)).lower(),
                time.perf_counter(),
            )
            compiled = lowered.compile()
            yield {
                "benchmark": "static",
                "kernel": name,
                "method": "kernel:gpu",
                "direction": direction,
                "shape": list(SHAPE),
                "dtype": "float32",
                "topology": topology,
                "device_kind": device.device_kind,
                "compile_seconds": round(time.perf_counter() - began, 2),
                "bytes_minimum": program.least_bytes(direction),
                "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
                **_resources(sorted(set(dump.iterdir()) - before)),
            }


def _resources(files: list[Path]) -> dict[str, int]:
    """Of the one kernel among the dumped files."""
    (source,) = [x for x in files if x.suffix == ".ptx" and ".entry cell_" in x.read_text()]
    command = [find_ptxas(), f"-arch={TARGET}", "-v", "-o", "/dev/null", str(source)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return {
        "registers": _number(r"Used (\d+) registers", text),
        "spill_bytes": _number(r"(\d+) bytes spill stores", text) + _number(r"(\d+) bytes spill loads", text),
        "shared_bytes": _number(r"(\d+) bytes smem", text, missing=0),
    }


def _number(pattern: str, text: str, missing: int | None = None) -> int:
    match = re.search(pattern, text)
    if match is None and missing is None:
        raise ValueError(f"ptxas -v must report {pattern!r}, got {text!r}")
    return int(match[1]) if match else missing or 0


def find_ptxas() -> str:
    """The assembler: of the installed `nvidia` packages, or on PATH. Raises ValueError where there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [str(x) for folder in folders for x in Path(folder).glob("*/bin/ptxas")]
    if not (path := next(iter(found), shutil.which("ptxas"))):
        raise ValueError("registers need ptxas, got none on PATH: pip install nvidia-cuda-nvcc")
    return path


if __name__ == "__main__":
    for row in rows(sys.argv[1], Path(sys.argv[2])):
        print(json.dumps(row), flush=True)
