"""What a checkpoint costs a run, and how soon a run that was ended goes on."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxseq.benchmark.timing import device
from jaxseq.config import load_config

CONFIG, SCRIPT = Path("configs/quickstart.py"), Path("launch/train.py")  # run from the root of the project
EVERY, SAVES = 100, 3


def checkpoint(repeats: int = 3) -> Iterator[dict[str, Any]]:
    """One row, medians over runs of the quickstart that save every 100 steps: seconds that the first and the second
    save hold up the steps, as shares of 100 steps; and from the start of a process that goes on from a checkpoint to
    the end of its first step, with all that it compiles.
    """
    found = [_one() for _ in range(repeats)]
    medians = {name: statistics.median(x[name] for x in found) for name in found[0]}
    shares = {f"{x}_save_share": medians[f"{x}_save"] / medians["steps"] for x in ("first", "second")}
    rounded = {name: float(f"{x:.3g}") for name, x in {**medians, **shares}.items()}
    yield {"benchmark": "checkpoint", "model": CONFIG.stem, "device": device(), "repeats": repeats, **rounded}


def _one() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(_command(folder, EVERY * SAVES), check=True, stdout=subprocess.DEVNULL)
        return {**_held_up(_rows(folder)), "resume": _resume(folder)}


def _command(folder: str, steps: int) -> list[str]:
    fields = {"steps": steps, "save_every": EVERY, "eval_every": 0, "sample_tokens": 0}
    changes = [f"--set=train.{name}={value}" for name, value in fields.items()]
    return [sys.executable, str(SCRIPT), f"--config={CONFIG}", f"--workdir={folder}", *changes]


def _rows(folder: str) -> list[dict[str, Any]]:
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _held_up(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of the saves, and of 100 steps without them."""
    data = load_config(CONFIG).data
    pace = statistics.median(row["tokens_per_second"] for row in rows)
    first, second = (row["save_seconds"] for row in rows if "save_seconds" in row)
    return {"first_save": first, "second_save": second, "steps": EVERY * data.batch * data.length / pace}


def _resume(folder: str) -> float:
    """Seconds from the start of a process to the row of its only step."""
    began, step = time.perf_counter(), EVERY * SAVES + 1
    with subprocess.Popen(_command(folder, step), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and _rows(folder)[-1]["step"] < step:
            time.sleep(0.02)
        passed = time.perf_counter() - began
        process.terminate()
    return passed
