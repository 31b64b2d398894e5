"""How often the parts of a compiled program run: its loops, branches and fusions, from its text.

A loop whose condition compares its counter with a constant runs that often: XLA's form of `lax.scan`. How often another
one runs depends on the data, and the caller says what to take. Of the branches of a conditional the shortest counts:
what a solver does besides, where it fails, is the longer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from jaxseq.compiled.hlo import Instruction, instructions

HEADER = re.compile(r"^(ENTRY )?%(\S+) \(")
NAMES = re.compile(r"%([\w.\-]+)")
INSIDE = re.compile(r"(?:calls|to_apply)=%([\w.\-]+)")


class Module(NamedTuple):
    """The computations of a program by name, and the one it starts with."""

    computations: dict[str, list[Instruction]]
    entry: str


class Run(NamedTuple):
    """A computation that is not part of a fusion, how often it runs, and the number of loops that it is in."""

    computation: str
    times: int
    loops: int


def read(text: str) -> Module:
    """The module of the text of a compiled program."""
    found, entry, lines, name = {}, "", [], ""
    for line in text.splitlines():
        if header := HEADER.match(line):
            name, lines = header[2], []
            entry = name if header[1] else entry
        elif line.startswith("}") and name:  # what follows names the thread of an asynchronous computation
            found[name] = list(instructions(lines))
        else:
            lines.append(line)
    return Module(found, entry)


def runs(module: Module, unknown: int) -> list[Run]:
    """Every computation that the program runs, with `unknown` turns for a loop whose count is not in the text."""
    return list(_runs(module, module.entry, 1, 0, unknown))


def _runs(module: Module, name: str, times: int, loops: int, unknown: int) -> Iterator[Run]:
    yield Run(name, times, loops)
    for line in module.computations[name]:
        if line.kind == "while":
            body, turns = _attribute(line, "body"), count(module, line) or unknown
            yield from _runs(module, body, times * turns, loops + 1, unknown)
        elif line.kind == "conditional":
            shortest = min(branches(line), key=lambda branch: size(module, branch))
            yield from _runs(module, shortest, times, loops, unknown)
        elif line.kind == "call":
            yield from _runs(module, _attribute(line, "to_apply"), times, loops, unknown)


def count(module: Module, loop: Instruction) -> int | None:
    """The turns of a loop; None if they are not in the text."""
    condition = module.computations[_attribute(loop, "condition")]
    found, last = {x.name: x for x in condition}, condition[-1]
    bounds = [found[x] for x in last.operands if x in found and found[x].kind == "constant"]
    if last.kind != "compare" or "direction=LT" not in last.rest or not bounds:
        return None
    return int(bounds[0].rest.split(")")[0])


def branches(line: Instruction) -> list[str]:
    """The computations that a conditional chooses from."""
    listed = re.search(r"branch_computations=\{([^}]*)\}", line.rest)
    return NAMES.findall(listed[1]) if listed else [_attribute(line, f"{x}_computation") for x in ("true", "false")]


def size(module: Module, name: str) -> int:
    """The instructions of a computation and of all that it calls."""
    lines = module.computations[name]
    called = [x for line in lines for x in (*inside(line), *_turned(line)) if x in module.computations]
    return len(lines) + sum(size(module, x) for x in called)


def inside(line: Instruction) -> list[str]:
    """The computations that an instruction is made of: those of a fusion."""
    return INSIDE.findall(line.rest) if line.kind in ("fusion", "async-start") else []


def flat(module: Module, name: str) -> Iterator[tuple[str, Instruction]]:
    """The instructions of a computation and of its fusions, each with the computation that it stands in."""
    for line in module.computations[name]:
        yield name, line
        for part in inside(line):
            yield from flat(module, part)


def _turned(line: Instruction) -> list[str]:
    if line.kind == "conditional":
        return branches(line)
    return [_attribute(line, "body")] if line.kind == "while" else []


def _attribute(line: Instruction, name: str) -> str:
    found = re.search(rf"\b{name}=%([\w.\-]+)", line.rest)
    if found is None:
        raise ValueError(f"an instruction of kind {line.kind} must say its {name}, got {line.rest[:120]!r}")
    return found[1]
