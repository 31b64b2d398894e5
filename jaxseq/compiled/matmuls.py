"""FLOPs of the matrix products that one chip does in a compiled program, with its loops.

The compiler for TPUs writes every product as a convolution; those of several products at once have a window over them,
most of which lies outside the array. A multiplication and an addition are two FLOPs, as everywhere.
"""

from __future__ import annotations

import re

from jaxseq.compiled.hlo import Instruction
from jaxseq.compiled.loops import Module, Run, flat

LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
WINDOW = re.compile(r"window=\{([^}]*)\}")


def matmul_flops(module: Module, runs: list[Run]) -> int:
    """FLOPs of all convolutions outside kernels, which multiply no matrices here."""
    return sum(run.times * sum(_flops(module, *x) for x in flat(module, run.computation)) for run in runs)


def _flops(module: Module, place: str, line: Instruction) -> int:
    if not line.kind.startswith("convolution"):
        return 0
    shapes = {x.name: x.results[0].shape for x in module.computations[place] if x.results}
    left, right = (shapes[x] for x in line.operands[:2])
    labels = LABELS.search(line.rest)
    assert labels is not None
    inputs, kernel, output = labels.groups()
    flops = 2 * left[inputs.index("b")] * right[kernel.index("i")] * right[kernel.index("o")]
    windows = _windows(line.rest)
    for axis in (x for x in output if x.isdigit()):
        rule = {key: values[int(axis)] for key, values in windows.items()}
        flops *= _inside(left[inputs.index(axis)], line.results[0].shape[output.index(axis)], rule)
    return flops


def _windows(rest: str) -> dict[str, list[str]]:
    """window={size=3x4 stride=1x2 ...}: the values for each axis that has a window."""
    found = WINDOW.search(rest)
    return {key: value.split("x") for key, value in re.findall(r"(\w+)=([\dx_\-]+)", found[1])} if found else {}


def _inside(entries: int, results: int, rule: dict[str, str]) -> int:
    """Pairs of a result and a tap of its window that lies on an entry."""
    stride, spread, apart = (int(rule.get(x, 1)) for x in ("stride", "lhs_dilate", "rhs_dilate"))
    before, last = int(rule.get("pad", "0_0").split("_")[0]), (entries - 1) * spread
    places = (i * stride + tap * apart - before for i in range(results) for tap in range(int(rule.get("size", 1))))
    return sum(0 <= x <= last and x % spread == 0 for x in places)
