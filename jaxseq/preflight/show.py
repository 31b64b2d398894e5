"""A preflight in words, and the table of the configs that name a topology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxseq.config import load_config
from jaxseq.preflight.measure import GIB, TURNS
from jaxseq.preflight.run import preflight

HEAD = "| Config | Topology | Mesh | Parameters | GiB per chip, of | Compute | HBM | Links | Fits | CPU to compile |"


def lines(result: dict[str, Any]) -> Iterator[str]:
    """What a person reads: the place, a paragraph per program, the verdict."""
    several = f"{result['slices']} x " if result["slices"] > 1 else ""
    sizes = " x ".join(f"{name} {n}" for name, n in result["mesh"].items())
    yield f"{several}{result['topology']}: {result['chips']} chips, {sizes}; {result['parameters']:,} parameters"
    yield from _program(result["program"], result)
    for name, found in result["programs"].items():
        yield from _program(name, found)
    yield verdict(result)
    yield from (f"  {hint}" for hint in result.get("hints", ()))


def verdict(result: dict[str, Any]) -> str:
    """One line: whether it fits, and what does not."""
    every = {result["program"]: result, **result["programs"]}
    most = max(x["bytes_per_chip"] for x in every.values())
    limit = result["hbm_per_chip"]
    if result["fits"]:
        return f"fits: at most {most / GIB:.2f} of {limit / GIB:.2f} GiB per chip"
    over = [name for name, x in every.items() if x["flops"] is None or x["bytes_per_chip"] > limit]
    return f"does not fit: {' and '.join(over)} need up to {most / GIB:.2f} of {limit / GIB:.2f} GiB per chip"


def _program(name: str, found: dict[str, Any]) -> Iterator[str]:
    parts = ", ".join(f"{part} {size / GIB:.2f}" for part, size in found["memory"].items())
    spent = f"{found['compile_seconds']:.0f} s ({found['compile_cpu_seconds']:.0f} s of CPU)"
    yield f"{name}, compiled in {spent}; per chip, loops that end by data {TURNS} times:"
    yield f"  memory    {found['bytes_per_chip'] / GIB:.2f} of {found['hbm_per_chip'] / GIB:.2f} GiB: {parts}"
    if found["flops"] is None:
        return
    times = {part: f"{1e3 * x:.3g} ms" for part, x in found["seconds"].items()}
    model = f"{found['model_flops'] / 1e12:.4g} of the model"
    yield f"  compute   {times['compute']}: {found['flops'] / 1e12:.4g} TFLOP of matrix products, {model}"
    yield f"  hbm       {times['hbm']}: {found['hbm_bytes'] / 1e9:.4g} GB"
    yield f"  links     {times['links']}: {found['sent_bytes'] / 1e9:.4g} GB sent"
    for kind, entry in found["collectives"].items():
        count = f"{entry['count']} in the program ({entry['in_loops']} in loops), {entry['runs']} run"
        yield f"    {kind}: {count}, {entry['bytes'] / 1e9:.4g} GB of results"
    yield f"  bound by  {found['bound']}"


def table(paths: Sequence[Path]) -> Iterator[str]:
    """Markdown: the train step of every config that names a topology, on that topology."""
    yield HEAD
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for path in paths:
        config = load_config(path)
        if config.topology is not None:
            yield row(path.stem, preflight(config, only=("train",)))


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    sizes = " x ".join(str(n) for n in found["mesh"].values())
    memory = f"{found['bytes_per_chip'] / GIB:.2f} of {found['hbm_per_chip'] / GIB:.2f}"
    times = [f"{1e3 * x:.3g} ms" for x in found["seconds"].values()] if found["fits"] else ["-"] * 3
    verdict = ["yes" if found["fits"] else "no", f"{found['compile_cpu_seconds']:.0f} s"]
    cells = [name, found["topology"], sizes, f"{found['parameters']:,}", memory, *times, *verdict]
    return f"| {' | '.join(cells)} |"
