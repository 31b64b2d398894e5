"""Chunks of matrix states compiled for a TPU, as kernels and by XLA: python -m jaxseq.benchmark.static_matrix TOPOLOGY
DUMP, run by `static`: with an empty DUMP all but the cycles of the kernels, else these.

Fields: `bytes_minimum` is every input and every output of a pass once; forward and backward are two, and the states
before all chunks, written once and read once, are `states_bytes` of it. `bytes_moved` and `temporary_bytes` as in
`static_tpu`; of XLA's loops the bytes are an estimate from the program's text. `cycles_per_head_and_chunk` are for a
kernel the bundles of its inner loop, to which nothing is added for memory; for XLA what the compiler itself estimates,
with memory. `hbm_cycles_per_head_and_chunk` is the time of `bytes_minimum`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jaxseq import ops
from jaxseq.benchmark.programs import place, size
from jaxseq.benchmark.static_tpu import INNER
from jaxseq.compiled import loops
from jaxseq.compiled.chips import CHIPS, devices
from jaxseq.compiled.hlo import KERNEL, moved_bytes
from jaxseq.compiled.traffic import hbm_bytes

SHAPE = BATCH, TIME, HEADS, WIDTH = 4, 2048, 16, 128
DIRECTIONS = "forward", "forward and backward"
METHODS = "kernel:tpu", "chunked"
BUNDLES = re.compile(r"(attention|delta)_\w*[.\d]*-\d+-final_bundles\.txt")
ESTIMATE = re.compile(r'"estimated_cycles":"(\d+)"')


class Program(NamedTuple):
    """A function of arrays and `method`, its arrays, and the steps of its chunks."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    chunk: int

    @property
    def count(self) -> int:
        """Chunks of all heads and rows."""
        return BATCH * HEADS * TIME // self.chunk


def programs() -> dict[str, Program]:
    """By name, in float32 with one decay per head."""
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    wide, narrow = array(SHAPE), array(SHAPE[:3])
    return {
        "linear_attention": Program(partial(ops.linear_attention, chunk=64), (wide, wide, wide, narrow), 64),
        "delta_rule": Program(partial(ops.delta_rule, chunk=32), (wide, wide, wide, narrow, narrow), 32),
    }


def trace(program: Program, method: str, direction: str, sharding: Any = None) -> tuple[Any, dict[str, int]]:
    """The traced program of a direction, and its `bytes_minimum` and `states_bytes`."""
    function, args = partial(program.function, method=method), program.args
    y = jax.eval_shape(function, *args)
    if direction == "forward":
        return jax.jit(function).trace(*place(args, sharding)), {"bytes_minimum": size((args, y)), "states_bytes": 0}

    def both(args, g):
        y, pull = jax.vjp(function, *args)
        return y, pull(g)

    states = 2 * 4 * program.count * WIDTH**2
    least = {"bytes_minimum": 3 * size(args) + 2 * size(y) + states, "states_bytes": states}
    return jax.jit(both).trace(*place((args, y), sharding)), least


def rows(topology: str) -> Iterator[dict[str, Any]]:
    """One per program, method and direction."""
    device = devices(topology)[0]
    for name, program in programs().items():
        for direction in DIRECTIONS:
            for method in METHODS:
                head = {"benchmark": "static", "matrix": name, "program": method, "direction": direction}
                head |= {"shape": [*SHAPE, WIDTH], "chunk": program.chunk, "dtype": "float32", "topology": topology}
                traced, least = trace(program, method, direction, SingleDeviceSharding(device))
                yield {**head, "device_kind": device.device_kind, **_row(program, traced, least, topology)}


def _row(program: Program, traced: Any, least: dict[str, int], topology: str) -> dict[str, Any]:
    compiled = traced.lower().compile()
    text = compiled.as_text()
    moved, cycles = (moved_bytes(text, traced.jaxpr.jaxpr), {}) if KERNEL in text else _by_xla(text, program.count)
    memory = least["bytes_minimum"] / CHIPS[topology.split(":")[0]].bytes_per_cycle / program.count
    return {
        **least,
        "bytes_moved": moved,
        "bytes_over_minimum": round(moved / least["bytes_minimum"], 3),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "hbm_cycles_per_head_and_chunk": round(memory),
        **cycles,
    }


def _by_xla(text: str, count: int) -> tuple[int, dict[str, int]]:
    module = loops.read(text)
    runs = loops.runs(module, 1)
    lines = ((run.times, ESTIMATE.search(x.rest)) for run in runs for x in module.computations[run.computation])
    cycles = sum(times * int(found[1]) for times, found in lines if found)
    return hbm_bytes(module, runs), {"cycles_per_head_and_chunk": round(cycles / count)}


def cycles(topology: str, dump: Path) -> Iterator[dict[str, Any]]:
    """One per kernel and direction, from the bundles that the compiler writes to the folder `dump`."""
    for name, program in programs().items():
        for direction in DIRECTIONS:
            before = set(dump.iterdir())
            trace(program, METHODS[0], direction, SingleDeviceSharding(devices(topology)[0]))[0].lower().compile()
            files = (x for x in set(dump.iterdir()) - before if BUNDLES.search(x.name))
            counted = sum(bool(INNER.match(line)) for file in files for line in file.read_text().splitlines())
            yield {"matrix": name, "program": METHODS[0], "direction": direction, "cycles_per_head_and_chunk": counted}


if __name__ == "__main__":
    topology, dump = sys.argv[1:]
    for row in cycles(topology, Path(dump)) if dump else rows(topology):
        print(json.dumps(row), flush=True)
