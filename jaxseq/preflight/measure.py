"""One program compiled for chips that are not there: whether it fits, what it moves, and what binds."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from jaxseq.compiled.chips import Chip
from jaxseq.compiled.exchanges import Exchange, by_kind, exchanges
from jaxseq.compiled.loops import read, runs
from jaxseq.compiled.matmuls import matmul_flops
from jaxseq.compiled.traffic import hbm_bytes
from jaxseq.preflight.programs import Program

# Turns of a loop that the text does not tell: Newton's iterations, of which ParaRNN needs about three (Danieli et al.
# 2025, arXiv 2510.21450, section 4.3).
TURNS = 3
GIB = 2**30
REFUSED = re.compile(r"\(([\d.]+)([KMG])\) exceeds available HBM|Used ([\d.]+)([KMG]) of [\d.]+[KMG] hbm")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def measure(program: Program, chip: Chip, chips: int) -> dict[str, Any]:
    """The figures of one program, all of them of one chip and one call, bytes and FLOPs with loops counted:

    bytes_per_chip, hbm_per_chip, fits; memory: arguments, temporaries, outputs (not given their memory by arguments),
    program; flops of matrix products, model_flops (6 or 2 per parameter and token), cost_analysis (the compiler's own
    figures, in which every loop's body counts once); hbm_bytes, sent_bytes, payload_bytes (see `Exchange`),
    collectives (see `by_kind`); seconds: the least time that each of compute, hbm and links needs, and `bound`, the
    longest; compile_seconds, with tracing, and compile_cpu_seconds of all cores. Where the compiler refuses the program
    for its memory, FLOPs and collectives are None and what follows from them is missing.
    """
    began, busy = time.perf_counter(), time.process_time()
    lowered = program.lower()
    try:
        compiled, text = _compile(lowered)
    except jax.errors.JaxRuntimeError as error:
        memory = {"arguments": program.arguments, "temporaries": _needed(error)}
        found: dict[str, Any] = {"flops": None, "collectives": None}
    else:
        memory, found = _memory(compiled), _work(compiled, text, chip, chips)
    used, limit = sum(memory.values()), int(chip.memory * GIB)
    head = {"bytes_per_chip": used, "hbm_per_chip": limit, "fits": found["flops"] is not None and used <= limit}
    spent = {"compile_seconds": time.perf_counter() - began, "compile_cpu_seconds": time.process_time() - busy}
    times = {name: round(x, 1) for name, x in spent.items()}
    return {**head, "memory": memory, "model_flops": program.model_flops // chips, **found, **times}


def _compile(lowered: Any) -> tuple[Any, str]:
    """The program, and its text as the compiler writes it out: jax 0.10.2's `as_text` cannot read back what libtpu
    0.0.52 makes for 512 chips of v5p, whose asynchronous updates it does not know.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled = lowered.compile(compiler_options={"xla_dump_to": folder})
        (file,) = Path(folder).glob("*.after_optimizations.txt")
        return compiled, file.read_text()


def _needed(error: Exception) -> int:
    """Bytes that the compiler says it would need. Raises the error again if it is about something else."""
    said = REFUSED.search(str(error))
    if said is None:
        raise ValueError(f"the compiler refuses the program: {error}") from error
    number, unit = (said[1], said[2]) if said[1] else (said[3], said[4])
    return int(float(number) * UNITS[unit])


def _memory(compiled: Any) -> dict[str, int]:
    stats = compiled.memory_analysis()
    return {
        "arguments": stats.argument_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "outputs": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
    }


def _work(compiled: Any, text: str, chip: Chip, chips: int) -> dict[str, Any]:
    module = read(text)
    executed = runs(module, TURNS)
    exchanged, costs = exchanges(module, executed, chips), compiled.cost_analysis()
    flops, moved, sent = matmul_flops(module, executed), hbm_bytes(module, executed), _sent(exchanged)
    seconds = {
        "compute": flops / (chip.peak * 1e12),
        "hbm": moved / (chip.bandwidth * 1e9),
        "links": sent / (chip.link * 1e9),
    }
    return {
        "flops": flops,
        "hbm_bytes": moved,
        "sent_bytes": sent,
        "payload_bytes": sum(x.times * x.payload for x in exchanged if x.kind != "network"),
        "collectives": by_kind(exchanged),
        "seconds": {name: float(f"{x:.3g}") for name, x in seconds.items()},
        "bound": max(seconds, key=lambda name: seconds[name]),
        "cost_analysis": {"flops": costs.get("flops"), "bytes": costs.get("bytes accessed")},
    }


def _sent(found: list[Exchange]) -> int:
    """Bytes that a chip sends over its links; what goes to other slices does not."""
    return int(sum(x.times * x.sent for x in found if x.kind != "network"))
