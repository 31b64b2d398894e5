"""Newton in registers against stepping, compiled for a TPU: python -m jaxseq.benchmark.static_newton TOPOLOGY DUMP, run
by `static`.

Fields: `stepping_bundles` and `newton_bundles` for 2, 3 and 4 iterations, of one time step of all D channels of a row;
bundles as in `static_tpu`. What is not in them: how long a bundle waits for transcendentals, of which stepping has one
chain after another, and for the test of convergence, one wait in every iteration of a window.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jaxseq.benchmark.programs import Program
from jaxseq.cells.paragru import ParaGRU
from jaxseq.cells.paralstm import ParaLSTM
from jaxseq.compiled.chips import devices
from jaxseq.ops.cell_scan import cell_scan
from jaxseq.ops.kernels.layout_tpu import LANES, STEPS
from jaxseq.ops.newton_scan import WINDOW, newton_scan

TIME, WIDTHS, ITERATIONS = 2048, (128, 256, 512, 1024, 4096), (2, 3, 4)
CELLS = {"ParaGRU": ParaGRU, "ParaLSTM": ParaLSTM}
BUNDLE = re.compile(r"\s*0x[0-9a-f]+\s+(LB)?[^:{]*: (>*)")  # of a loop's body its first, and how deep it lies


def rows(topology: str, dump: Path) -> Iterator[dict[str, Any]]:
    """One per cell and width."""
    device = devices(topology)[0]
    for name in CELLS:
        iterate, window = _newton(_dumped(_program(newton_scan, name, LANES), device, dump))
        for width in WIDTHS:
            inner, _ = deepest(_dumped(_program(cell_scan, name, width), device, dump))
            solved = {k: ((k + 1) * iterate + window) / WINDOW * width / LANES for k in ITERATIONS}
            yield {
                "benchmark": "static",
                "newton": name,
                "direction": "forward",
                "shape": [1, TIME, width],
                "topology": topology,
                "device_kind": device.device_kind,
                "stepping_bundles": round(sum(inner) / STEPS, 2),
                "newton_bundles": {k: round(x, 2) for k, x in solved.items()},
            }


def deepest(lines: list[str]) -> tuple[list[int], int]:
    """Bundles of each of the innermost loops, and of those that are one level further out."""
    bundles = [(match[1], len(match[2])) for line in lines if (match := BUNDLE.match(line))]
    depth = max(level for _, level in bundles)
    inner: list[int] = []
    for first, _ in (x for x in bundles if x[1] == depth):
        inner = [*inner, 1] if first else [*inner[:-1], inner[-1] + 1]
    return inner, sum(level == depth - 1 for _, level in bundles)


def _newton(lines: list[str]) -> tuple[int, int]:
    """Bundles of an iteration, and of the rest of a window; the other inner loop is that which steps."""
    (iterate, _), window = deepest(lines)
    return iterate, window


def _program(scan: Any, name: str, width: int) -> Program:
    """The forward pass of one row."""
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    cell = CELLS[name](width, width)
    params = {"a": array((3, width)), "p": array((2, width))}
    state = jax.tree.map(lambda x: array(x.shape), jax.eval_shape(lambda: cell.init_state(1)))
    return Program(partial(scan, cell.step), (params, (array((1, TIME, width)),) * 3, state), (False,) * 3)


def _dumped(program: Program, device: Any, dump: Path) -> list[str]:
    """The final bundles of the one kernel of a program."""
    before = set(dump.iterdir())
    program.trace("forward", "kernel:tpu", SingleDeviceSharding(device)).lower().compile()
    files = set(dump.iterdir()) - before
    (file,) = [x for x in files if re.search(r"(cell|newton)_\w*[.\d]*-\d+-final_bundles\.txt", x.name)]
    return file.read_text().splitlines()


if __name__ == "__main__":
    for row in rows(sys.argv[1], Path(sys.argv[2])):
        print(json.dumps(row), flush=True)
