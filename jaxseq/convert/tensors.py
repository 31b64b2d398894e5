"""A folder of safetensors files, read one tensor at a time and written in shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of a folder by name, each read when asked for; bfloat16 comes as `ml_dtypes.bfloat16`.

    Raises FileNotFoundError where there is no safetensors file, and ValueError for one that is truncated or corrupt, by
    its name, and for a folder of pickles, which can run code and are not read.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        self._files = {name: path for path in self._paths() for name in _names(path)}

    def __getitem__(self, name: str) -> np.ndarray:
        with _opened(self._files[name]) as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        with _opened(self._files[name]) as file:
            return tuple(file.get_slice(name).get_shape())

    def _paths(self) -> list[Path]:
        index = self._folder / INDEX
        if index.is_file():
            paths = [self._folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
            if lost := [path.name for path in paths if not path.is_file()]:
                raise FileNotFoundError(f"{self._folder}: {INDEX} names {lost[0]}, which is not there")
            return paths
        paths = sorted(self._folder.glob("*.safetensors"))
        if not paths and any(next(self._folder.glob(kind), None) for kind in PICKLES):
            raise ValueError(
                f"{self._folder} has pickled weights alone, which can run code when they are read: convert them on a "
                "machine that you can lose, with save_pretrained(folder, safe_serialization=True)"
            )
        if not paths:
            raise FileNotFoundError(f"{self._folder}: no safetensors file is there")
        return paths


def write_tensors(folder: Path, tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int) -> None:
    """Writes tensors as they come into files of at most `shard_bytes` (but for a single larger tensor), and the index.

    Never more than one shard is in memory.
    """
    shards: list[list[str]] = []
    held: dict[str, np.ndarray] = {}
    total = 0
    for name, array in tensors:
        if held and sum(x.nbytes for x in held.values()) + array.nbytes > shard_bytes:
            shards.append(_flush(folder, len(shards), held))
            held = {}
        held[name] = np.asarray(array, order="C")  # as ascontiguousarray, which makes a vector of a scalar
        total += array.nbytes
    shards.append(_flush(folder, len(shards), held))
    _rename(folder, shards, total)


def _flush(folder: Path, number: int, held: dict[str, np.ndarray]) -> list[str]:
    save_file(held, folder / f"shard-{number}", metadata={"format": "pt"})
    return list(held)


def _rename(folder: Path, shards: list[list[str]], total: int) -> None:
    if len(shards) == 1:
        (folder / "shard-0").rename(folder / "model.safetensors")
        return
    weight_map = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        (folder / f"shard-{number}").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2))


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        return list(file.keys())


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "numpy")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
