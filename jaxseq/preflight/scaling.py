"""Weak scaling: what a chip exchanges in a train step, compiled for more and more chips with as much work for each.

A ring sends (n - 1) / n of an array to n chips, which alone grows by 14 % from 8 to 256. What must not grow is the
payload: the bytes of the whole arrays that are gathered, scattered or exchanged, twice those of sums that all get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jaxseq.compiled.chips import devices
from jaxseq.experiment import Experiment
from jaxseq.preflight.run import chip_mesh, examine, prepare

Mesh = tuple[int, int, int, int]
# Slices, and the mesh on each. "fsdp" has groups for which libtpu 0.0.52 keeps reduce-scatters and all-gathers. Where
# one group is the whole of a square slice ("whole"), it makes sums of the former from 16 chips on, and of both from 64.
SLICES: dict[str, tuple[tuple[str, Mesh], ...]] = {
    "fsdp": (
        ("v5e:2x4", (1, -1, 1, 1)),
        ("v5e:4x8", (1, -1, 1, 1)),
        ("v5e:8x16", (2, -1, 1, 1)),
        ("v5e:16x16", (4, -1, 1, 1)),
    ),
    "whole": tuple((f"v5e:{x}", (1, -1, 1, 1)) for x in ("2x4", "4x4", "8x8", "16x16")),
    "seq": tuple((f"v5p:{x}", (1, 1, 1, -1)) for x in ("2x2x2", "2x2x4", "4x4x4", "4x8x8")),
}
HEAD = "| Topology | Mesh | Chips | Payload, MB | Sent, MB | Payload by kind, MB | CPU to compile |"


def scaling(config: Experiment, kind: str) -> Iterator[dict[str, Any]]:
    """The figures of `preflight` for every slice of SLICES[kind]. Of the config's data a chip has one row of
    `data.length`, for "seq" one part of that length of the only row.

    Raises ValueError for another kind, and what `preflight` does. It prepares the process as that does.
    """
    if kind not in SLICES:
        raise ValueError(f"scaling must be one of {', '.join(SLICES)}, got {kind!r}")
    prepare()
    for topology, shape in SLICES[kind]:
        yield on_slice(config, kind, topology, shape)


def on_slice(config: Experiment, kind: str, topology: str, shape: Mesh) -> dict[str, Any]:
    """The figures on one slice."""
    mesh = chip_mesh(shape, devices(topology))
    split = kind == "seq"
    rows, length = (1, config.data.length * mesh.size) if split else (mesh.size, config.data.length)
    data = replace(config.data, length=length, batch=rows, shards=None)
    grown = replace(config, data=data, train=replace(config.train, accumulate=1), mesh=shape)
    return examine(grown, topology, mesh, only=("train",))


def scaling_table(config: Experiment, kind: str) -> Iterator[str]:
    """Markdown: a row for every slice."""
    yield HEAD
    yield "|---|---|---|---|---|---|---|"
    for found in scaling(config, kind):
        sizes = " x ".join(str(n) for n in found["mesh"].values())
        kinds = ", ".join(f"{name} {_mb(x['payload'])}" for name, x in found["collectives"].items())
        totals = _mb(found["payload_bytes"]), _mb(found["sent_bytes"])
        cells = [found["topology"], sizes, str(found["chips"]), *totals, kinds, f"{found['compile_cpu_seconds']:.0f} s"]
        yield f"| {' | '.join(cells)} |"


def _mb(size: int) -> str:
    return f"{size / 1e6:.4g}"
