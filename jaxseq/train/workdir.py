"""The folder of a run: what it was started with, what it measured, and whether another start may go on there.

config.json  manifest.json  versions.json  metrics.jsonl  checkpoints/  loss.png  result.json
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

from jaxseq.checkpoint import read_config, versions
from jaxseq.cluster import gather
from jaxseq.config import to_json
from jaxseq.data.cache import write_whole
from jaxseq.experiment import Experiment, changes


class Workdir:
    """A run's folder, made if it is missing."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(f"--workdir={path}: there is a file of that name") from error

    def claim(self, config: Experiment, manifest: dict[str, Any]) -> list[str]:
        """Records config, manifest and versions, or checks them against those of the run that is there.

        Returns the changes to resumable fields, a line each. Raises ValueError with the difference where the config
        or the data differ otherwise, or where the folder holds checkpoints of an unknown run.
        """
        allowed: list[str] = []
        if (self.path / "config.json").exists():
            self._check_trained_here()
            refused, allowed = changes(read_config(self.path), config)
            if refused:
                raise ValueError(
                    f"{self.path} holds a run with another config ({'; '.join(refused)}): "
                    "choose another --workdir, or the old values"
                )
            self._check_manifest(manifest)
        elif (self.path / "checkpoints").exists():
            raise ValueError(f"{self.path} has checkpoints but no config.json: choose another --workdir")
        self.write("manifest.json", manifest)
        self.write("versions.json", versions())
        self.write("config.json", to_json(config))
        return allowed

    def _check_trained_here(self) -> None:
        if (self.path / "checkpoints").exists() and not (self.path / "manifest.json").exists():
            raise ValueError(
                f"{self.path} holds a model that was not trained there (checkpoints without a manifest.json): choose "
                "another --workdir; to train on from a converted model, name its Hugging Face folder in init.from_hf"
            )

    def write(self, name: str, data: Any) -> None:
        """Writes JSON so that a reader sees the old file or the new one, never half of one."""
        write_whole(self.path / name, (json.dumps(data, indent=2) + "\n").encode())

    def read(self, name: str) -> Any:
        """A JSON file of the folder, None where it is missing."""
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def metrics(self) -> Path:
        """metrics.jsonl: one object per logged step."""
        return self.path / "metrics.jsonl"

    def rewind(self, step: int) -> None:
        """Drops the metrics of steps after `step`, which a resumed run takes again, and a line cut short."""
        if not self.metrics.exists():
            return
        rows = (_row(line) for line in self.metrics.read_text().splitlines())
        kept = [json.dumps(row) + "\n" for row in rows if row is not None and row["step"] <= step]
        write_whole(self.metrics, "".join(kept).encode())

    def log(self, row: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _check_manifest(self, manifest: dict[str, Any]) -> None:
        old = self.read("manifest.json")
        if old is None or old == manifest:
            return
        names = [key for key in manifest if old.get(key) != manifest[key]]
        raise ValueError(
            f"{self.path} was trained on other data ({', '.join(names)} of manifest.json differ): "
            "choose another --workdir, or restore the data"
        )


def claim(path: str | Path, config: Experiment, manifest: dict[str, Any]) -> tuple[Workdir, list[str]]:
    """The folder, and what `Workdir.claim` returns; with several processes, process 0 claims it for all.

    Raises as `Workdir` and `Workdir.claim` do, and where processes have different configs or data, or do not share the
    storage that the folder is on.
    """
    first = jax.process_index() == 0
    allowed = Workdir(path).claim(config, manifest) if first else []
    mine = hashlib.sha256(json.dumps([to_json(config), manifest], sort_keys=True).encode()).hexdigest()
    others = [i for i, digest in enumerate(gather(mine)) if digest != mine]
    if others:
        raise ValueError(f"all processes must have the same config and data: process {others[0]} has others")
    folder = Workdir(path)
    if not first and folder.read("config.json") != json.loads(json.dumps(to_json(config))):
        raise FileNotFoundError(f"{path}: not the folder that process 0 made: --workdir must be on shared storage")
    return folder, allowed


def _row(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None
