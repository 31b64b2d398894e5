"""HBM bytes that one chip reads and writes in a run of a compiled program, with its loops: an estimate from its text.

Every instruction reads its operands and writes its results once, but for those that lie in VMEM. Of an array of which a
fusion takes slices it reads the slices, and of one that it updates in place it writes the update: the stacked
parameters of a loop over layers are read one layer at a time.
"""

from __future__ import annotations

from jaxseq.compiled.hlo import FREE, Array, Instruction, one_bytes
from jaxseq.compiled.loops import Module, Run, inside

NOTHING = FREE | {"while", "conditional", "call", "after-all", "partition-id", "replica-id", "iota", "broadcast"}
SLICES = {"dynamic-slice", "slice", "gather"}
SEEN_THROUGH = {"bitcast", "get-tuple-element"}
KEPT = {"tuple", "AsyncCollectiveStart", "AsyncCollectiveDone"}  # hand an array on
Lines = dict[str, Instruction]


def hbm_bytes(module: Module, runs: list[Run]) -> int:
    """Bytes of all instructions that the program runs."""
    return sum(run.times * _computation(module, run.computation) for run in runs)


def _computation(module: Module, name: str) -> int:
    lines = {x.name: x for x in module.computations[name]}
    return sum(_one(module, x, lines) for x in lines.values() if x.kind not in NOTHING)


def _one(module: Module, line: Instruction, lines: Lines) -> int:
    parts = inside(line)
    if line.kind == "fusion" and parts:
        return _fusion(module, line, parts[0], lines)
    if line.kind == "dynamic-update-slice":
        return 2 * _bytes(lines[line.operands[1]].results)
    if line.kind in ("dynamic-slice", "gather"):
        return 2 * _bytes(line.results)
    if line.kind == "dynamic-slice-start":  # (from, where, to, context)
        return line.results[-2].size * (1 + line.results[-2].slow)
    return one_bytes(line, lines)


def _fusion(module: Module, line: Instruction, part: str, lines: Lines) -> int:
    own = {x.name: x for x in module.computations[part]}
    read = 0
    for place, name in enumerate(line.operands):
        source = lines.get(name)
        if source is not None and any(x.slow for x in source.results):
            read += min(_bytes(source.results), _read(module, part, place))
    last = module.computations[part][-1]
    roots = [own[x] for x in last.operands] if last.kind in KEPT else [last]
    return read + sum(_written(module, root, own) for root in roots)


def _read(module: Module, part: str, place: int) -> int:
    """Bytes that a fusion reads of its operand number `place`."""
    lines = module.computations[part]
    name = next(x.name for x in lines if x.kind == "parameter" and x.rest.startswith(f"{place})"))
    return sum(_used(module, part, name, x) for x in lines if name in x.operands)


def _used(module: Module, part: str, name: str, user: Instruction) -> int:
    lines = module.computations[part]
    if user.kind in SLICES:
        return sum(x.size for x in user.results) if user.operands[0] == name else 0
    if user.kind == "dynamic-update-slice" and user.operands[0] == name:
        return 0
    if user.kind in KEPT:
        return 0
    if user.kind in SEEN_THROUGH:
        return sum(_used(module, part, user.name, x) for x in lines if user.name in x.operands)
    if user.kind == "fusion" and (parts := inside(user)):
        return sum(_read(module, parts[0], i) for i, x in enumerate(user.operands) if x == name)
    return next(sum(y.size for y in x.results) for x in lines if x.name == name)


def _written(module: Module, root: Instruction, own: Lines) -> int:
    """Bytes that a fusion writes for one of its results; nothing for an operand that it hands on."""
    if root.kind in SEEN_THROUGH and root.operands and root.operands[0] in own:
        return _written(module, own[root.operands[0]], own)
    if root.kind == "parameter" or root.kind in KEPT:
        return 0
    if root.kind == "dynamic-update-slice":
        return sum(x.size for x in own[root.operands[1]].results)
    if root.kind == "fusion" and (parts := inside(root)):
        deeper = {x.name: x for x in module.computations[parts[0]]}
        return _written(module, module.computations[parts[0]][-1], deeper)
    return _bytes(root.results)


def _bytes(arrays: tuple[Array, ...]) -> int:
    return sum(x.size for x in arrays if x.slow)
