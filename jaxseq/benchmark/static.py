"""What can be said of the kernels and the sharded scans without an accelerator: they are compiled for one, not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from jaxseq.compiled.chips import GPU_ENVIRONMENT, GPUS, TPU_ENVIRONMENT, check_topology


def static(topology: str = "v5e:2x2") -> Iterator[dict[str, Any]]:
    """Rows for a TPU topology (v5e:2x2, v5p:2x2x1, v6e:2x2, v5e:4x4, ...) or a GPU (h100, h200).

    TPU, per kernel and direction: HBM bytes moved over the least possible, temporaries, cycles of the inner loop and of
    HBM time per step and tile of 8 x 128 channels; per sharded scan and length: collectives and bytes exchanged; per
    cell and width: cycles of stepping and of Newton in registers; per op with matrix states: bytes, temporaries and
    cycles of its kernel and of XLA's program. GPU: registers, spills and shared memory. See `static_tpu`,
    `static_newton`, `static_matrix` and `static_gpu` for the fields.

    Compiled in another process: where the compilers write their dumps is read once, when they are loaded.

    Raises ValueError for an unknown topology and where its compiler is not installed.
    """
    check_topology(topology)
    yield from _gpu(topology) if topology in GPUS else _tpu(topology)


def _gpu(topology: str) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as dump:
        yield from _child("static_gpu", topology, dump, GPU_ENVIRONMENT | {"XLA_FLAGS": f"--xla_dump_to={dump}"})


def _tpu(topology: str) -> Iterator[dict[str, Any]]:
    yield from _with_cycles("static_tpu", ("kernel", "method", "direction"), topology)
    yield from _child("static_split", topology, "", TPU_ENVIRONMENT)
    yield from _dumping("static_newton", topology)
    yield from _with_cycles("static_matrix", ("matrix", "program", "direction"), topology)


def _with_cycles(module: str, names: tuple[str, ...], topology: str) -> Iterator[dict[str, Any]]:
    # Apart, because writing the dump takes several times as long as compiling.
    found = {tuple(x[name] for name in names): x for x in list(_dumping(module, topology))}
    for row in _child(module, topology, "", TPU_ENVIRONMENT):
        yield row | found.get(tuple(row[name] for name in names), {})


def _dumping(module: str, topology: str) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as dump:
        flags = f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true"
        yield from _child(module, topology, dump, TPU_ENVIRONMENT | {"LIBTPU_INIT_ARGS": flags})


def _child(module: str, topology: str, dump: str, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Rows that `python -m jaxseq.benchmark.<module> topology dump` prints, as they come."""
    command = [sys.executable, "-m", f"jaxseq.benchmark.{module}", topology, dump]
    # A program from the cache has neither a compile time nor a dump.
    env = {**os.environ, **environment, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            assert child.stdout is not None
            yield from (json.loads(line) for line in child.stdout if line.startswith("{"))
        if child.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(f"compiling for {topology} failed: {last.removeprefix('ValueError: ')}")
