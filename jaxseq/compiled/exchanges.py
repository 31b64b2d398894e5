"""What chips send each other in a compiled program, with its loops."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from jaxseq.compiled.hlo import COLLECTIVES, Instruction
from jaxseq.compiled.loops import Module, Run, flat

NETWORK = "_xla_megascale_"  # marks what goes to another slice, through the host
SCATTER = "all-reduce-scatter"  # the compiler's name for the sum of which every chip keeps a part


class Exchange(NamedTuple):
    """A collective: its kind, the bytes of its result on a chip, chips in a group, how often it runs, and the number of
    loops around it.
    """

    kind: str
    size: int
    group: int
    times: int
    loops: int

    @property
    def payload(self) -> int:
        """Bytes of the whole array; twice those of a sum that all get, which is scattered and gathered."""
        return self.size * {"reduce-scatter": self.group, "all-reduce": 2}.get(self.kind, 1)

    @property
    def sent(self) -> float:
        """Bytes that a chip sends each time, in a ring: (n - 1) / n of the payload."""
        return self.payload * (1 if self.kind == "collective-permute" else (self.group - 1) / self.group)


def exchanges(module: Module, runs: list[Run], chips: int) -> list[Exchange]:
    """All that chips exchange; `chips` is their number, that of groups which the text does not spell out.

    A collective that runs beside several fusions stands in each of them, with one channel and size: it is counted once.
    """
    found: dict[Any, Exchange] = {}
    for run in runs:
        for place, line in flat(module, run.computation):
            kind = line.kind.removesuffix("-start")
            if kind in COLLECTIVES or (kind == "send" and NETWORK in line.rest):
                channel = re.search(r"channel_id=(\d+)", line.rest)
                one = _exchange(kind, place, line, chips, run)
                scatter = (
                    place if one.kind == "reduce-scatter" else ""
                )  # those share a channel, and have one place each
                found[run.computation, one, channel[1] if channel else line.name, scatter] = one
    return list(found.values())


def _exchange(kind: str, place: str, line: Instruction, chips: int, run: Run) -> Exchange:
    sizes, group = [x.size for x in line.results], _group(line.rest, chips)
    # What is started has operands and results in one tuple; a result is not smaller than what is sent.
    size = max(sizes, default=0) if line.kind.endswith("-start") or kind == "send" else sum(sizes)
    if kind == "all-reduce" and place.startswith(SCATTER):
        return Exchange("reduce-scatter", size // group, group, run.times, run.loops)
    return Exchange("network" if kind == "send" else kind, size, group, run.times, run.loops)


def _group(rest: str, chips: int) -> int:
    """Chips in one group of replica_groups={{0,1},{2,3}}, =[groups,chips]<=[...] or mesh['a'=2,'b'=4] {'b'}."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if listed := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(listed[1])
    if listed := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", listed[1])}
        group = 1
        for name in re.findall(r"'(\w+)'", listed[2]):
            group *= sizes[name]
        return group
    return chips


def by_kind(found: list[Exchange]) -> dict[str, dict[str, int]]:
    """By kind: `count` and `in_loops` of the collectives in the text, `runs`, `bytes` and `payload` of a run of the
    program; bytes are those of the results on one chip.
    """
    kinds: dict[str, dict[str, int]] = {}
    for one in found:
        entry = kinds.setdefault(one.kind, {"count": 0, "in_loops": 0, "runs": 0, "bytes": 0, "payload": 0})
        entry["count"] += 1
        entry["in_loops"] += one.loops > 0
        entry["runs"] += one.times
        entry["bytes"] += one.times * one.size
        entry["payload"] += one.times * one.payload
    return dict(sorted(kinds.items()))
