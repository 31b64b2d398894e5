"""What a compiled program moves: read from its text, and for Pallas kernels from the grid and the blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8, "c64": 8}
ARRAY = re.compile(rf"\b({'|'.join(SIZES)})\[([\d,]*)\](?:\{{([^}}]*)\}})?")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%(\S+) = (.*?) ([a-z][\w\-]*)\((.*)$")
COLLECTIVES = "all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all"
IN_VMEM = "S(1)"  # in the layout of an array on TPU
KERNEL = "tpu_custom_call"
FREE = {"parameter", "bitcast", "tuple", "get-tuple-element", "constant", "ConcatBitcast"}


class Array(NamedTuple):
    """An array of a program: its bytes, those of one entry, whether it lies in HBM, and its shape."""

    size: int
    item: int
    slow: bool
    shape: tuple[int, ...] = ()


class Instruction(NamedTuple):
    """One line of HLO: its name, what it is, the arrays of its result, the names of its operands, and the rest."""

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    rest: str


def moved_bytes(text: str, jaxpr: Any) -> int:
    """HBM bytes that a program reads and writes: operands and results of all instructions of its entry computation
    (but those that lie in VMEM), and the blocks of its kernels (`jaxpr` is what the program was lowered from).

    An operand of which a fusion reads a part is counted whole. Raises ValueError if the program has a loop, whose
    body is not counted, or a kernel that `jaxpr` does not have.
    """
    listed = list(entry(text))
    found = {x.name: x for x in listed}
    if any(x.kind == "while" for x in listed):
        raise ValueError("a program whose bytes are counted must have no loop outside its kernels, got one")
    return sum(one_bytes(x, found) for x in listed if x.kind not in FREE | {KERNEL}) + sum(
        map(_traffic, kernels(text, jaxpr))
    )


def kernels(text: str, jaxpr: Any) -> list[Any]:
    """The grids and blocks of the Pallas kernels of a compiled program, from what it was lowered from: of the kernels
    there, among which are some of derivatives that the program does not take, those with its operands and results.
    """
    known = {_signature(grid): grid for grid in _grids(jaxpr)}
    calls = [(len(x.operands), tuple(y.size for y in x.results)) for x in entry(text) if x.kind == KERNEL]
    if not known.keys() >= set(calls):
        raise ValueError(f"a program must call the kernels it was lowered from, {list(known)}, got {calls}")
    return [known[call] for call in calls]


def _signature(grid: Any) -> tuple[int, tuple[int, ...]]:
    results = [x.array_aval for x in grid.block_mappings[grid.num_inputs :]]
    return grid.num_inputs, tuple(x.size * x.dtype.itemsize for x in results)


def _grids(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            yield equation.params["grid_mapping"]
            continue
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            yield from _grids(inner) if hasattr(inner, "eqns") else ()


def block_shape(mapping: Any) -> tuple[int, ...]:
    """The block of an operand, with 1 for an axis that the kernel does not see."""
    return tuple(getattr(x, "block_size", 1) for x in mapping.block_shape)


def collectives(text: str) -> dict[str, dict[str, int]]:
    """{kind: {"count", "bytes"}} of the exchanges between devices; bytes are those of the results on one device."""
    found: dict[str, dict[str, int]] = {}
    for line in instructions(text.splitlines()):
        kind, sizes = line.kind.removesuffix("-start"), [x.size for x in line.results]
        if kind in COLLECTIVES:
            entry = found.setdefault(kind, {"count": 0, "bytes": 0})
            entry["count"] += 1
            # What is started has operands and results in one tuple; a result is not smaller than what is sent.
            entry["bytes"] += sum(sizes) if kind == line.kind else max(sizes)
    return found


def entry(text: str) -> Iterator[Instruction]:
    """The instructions of the entry computation."""
    lines = text[text.index("\nENTRY") + 1 :].splitlines()
    return instructions(lines[1 : lines.index("}")])


def instructions(lines: list[str]) -> Iterator[Instruction]:
    """What the lines say; a custom call is of the kind of its target."""
    for line in lines:
        if match := INSTRUCTION.match(line):
            name, result, kind, rest = match.groups()
            target = re.search(r'custom_call_target="(\w+)"', rest)
            operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
            yield Instruction(name, target[1] if target else kind, _arrays(result), tuple(operands), rest)


def _arrays(text: str) -> tuple[Array, ...]:
    """f32[4,8]{1,0:T(8,128)S(1)} is 128 bytes in VMEM."""
    found = (
        (SIZES[dtype], tuple(int(n) for n in shape.split(",") if n), layout)
        for dtype, shape, layout in ARRAY.findall(text)
    )
    return tuple(Array(item * prod(shape), item, IN_VMEM not in layout, shape) for item, shape, layout in found)


def one_bytes(line: Instruction, found: dict[str, Instruction]) -> int:
    """HBM bytes that an instruction reads and writes, `found` being the instructions by name."""
    if line.kind.endswith("-done"):
        return 0  # it was counted when it was started
    if line.kind == "copy-start":
        return sum(x.size for x in line.results[:2] if x.slow)  # (to, from, context)
    if line.kind in ("slice", "slice-start"):
        source, result = found[line.operands[0]].results[0], line.results[-2 if line.kind == "slice-start" else 0]
        return source.slow * _span(line.rest) * source.item + result.slow * result.size
    read = (x for name in set(line.operands) if name in found for x in found[name].results)
    return sum(x.size for x in (*read, *line.results) if x.slow)


def _span(rest: str) -> int:
    """Entries from the first to the last that slice={[0:4], [2:512:2]} takes: memory is read in tiles, not by entry."""
    bounds = re.findall(r"\[(\d+):(\d+)", rest[rest.index("slice={") :].split("}")[0])
    return prod(int(stop) - int(start) for start, stop in bounds)


def _traffic(grid: Any) -> int:
    """Bytes that a kernel brings in and out: a block each time the grid comes to another one."""
    return sum(_fetches(x, grid.grid) * prod(block_shape(x)) * x.array_aval.dtype.itemsize for x in grid.block_mappings)


def _fetches(mapping: Any, grid: tuple[int, ...]) -> int:
    axes = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.int32) for n in grid), indexing="ij")
    blocks = jnp.stack(jax.vmap(jaxpr_as_fun(mapping.index_map_jaxpr))(*(x.reshape(-1) for x in axes)), axis=-1)
    return 1 + int(jnp.sum(jnp.any(blocks[1:] != blocks[:-1], axis=1)))
