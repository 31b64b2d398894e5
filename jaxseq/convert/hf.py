"""Whole models from and to a folder of Hugging Face: config.json and safetensors.

Parameters are read onto the mesh one shard of one parameter at a time, and written one layer at a time, so that a model
larger than the host's memory crosses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseq.convert.architecture import Architecture, Fields
from jaxseq.convert.architectures import ARCHITECTURES
from jaxseq.convert.bar import Seen, counted, each, unseen
from jaxseq.convert.layout import to_numpy
from jaxseq.convert.table import Table, read_entry, write
from jaxseq.convert.tensors import Tensors, write_tensors
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.sharding import dotted, is_declared, named, shardings

SHARD_BYTES = 2 * 10**9


def read_hf_config(folder: str | Path) -> tuple[Architecture, ModelConfig]:
    """What a folder's config.json says.

    Raises FileNotFoundError where there is none; ValueError for an architecture that is not in ARCHITECTURES, for a
    field that is not known, or that has a value which is not supported, by its name.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: there is no config.json")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    architecture = next((a for a in ARCHITECTURES if a.model_type == values.get("model_type")), None)
    if architecture is None:
        known = ", ".join(a.model_type for a in ARCHITECTURES)
        raise ValueError(f"{path}: model_type must be one of {known}, got {values.get('model_type')!r}")
    fields = Fields(values)
    config = architecture.read_config(fields)
    fields.done()
    return architecture, config


def read_hf(folder: str | Path, mesh: Mesh, seen: Seen = unseen) -> tuple[LanguageModel, Any]:
    """The model of a folder, and its parameters (float32) laid out on the mesh; `seen` is told of each.

    Raises FileNotFoundError and ValueError as `read_hf_config` and `Tensors` do, and ValueError for a tensor that is
    missing, unknown or wrongly shaped.
    """
    architecture, config = read_hf_config(folder)
    reader = Reader(Tensors(folder), architecture, config)
    reader.check()
    declared = declare(LanguageModel(config))

    def one(path: Any, leaf: Any, sharding: Any) -> jax.Array:
        name, shape = dotted(path), leaf.value.shape
        return jax.make_array_from_callback(shape, sharding, lambda index: reader.read(name, index or ()))

    return LanguageModel(config), laid_out(one, declared, mesh, seen)


def laid_out(one: Callable[..., jax.Array], declared: Any, mesh: Mesh, seen: Seen) -> Any:
    """The tree of one(path, leaf, sharding) for every declared parameter on the mesh; `seen` is told of each."""
    told = counted(one, len(named(declared)), seen)
    return jax.tree_util.tree_map_with_path(told, declared, shardings(mesh, declared), is_leaf=is_declared)


def write_hf(
    folder: Path,
    config: ModelConfig,
    params: Any,
    dtype: Any = np.float32,
    shard_bytes: int = SHARD_BYTES,
    seen: Seen = unseen,
) -> Architecture:
    """Writes config.json and the tensors, in `dtype`, into an empty folder; the architecture that was chosen. `seen` is
    told of each tensor.

    Raises ValueError for a model that no class of transformers has, saying why for each that comes near.
    """
    architecture, fields = choose(config)
    names = {"architectures": [architecture.name], "model_type": architecture.model_type}
    kept = {"tie_word_embeddings": config.tied, "dtype": np.dtype(dtype).name}
    (folder / "config.json").write_text(json.dumps(names | fields | kept, indent=2) + "\n")
    tables = [top_of(architecture, config), *tuple(architecture.blocks(config)) * config.repeats]
    total = sum(len(entry.theirs) for table in tables for entry in table)
    write_tensors(folder, each(_written(architecture, config, params, dtype), total, seen), shard_bytes)
    return architecture


def choose(config: ModelConfig) -> tuple[Architecture, dict[str, Any]]:
    """The class of transformers that has this model, and its config.json. Raises ValueError where there is none."""
    problems = []
    for architecture in ARCHITECTURES:
        if architecture.mixers == set(config.pattern):
            try:
                return architecture, architecture.write_config(config)
            except ValueError as error:
                problems.append(f"{architecture.name}: {error}")
    why = "; ".join(problems) or f"no class of transformers is made of {', '.join(sorted(set(config.pattern)))}"
    raise ValueError(f"transformers has no such model ({why}): use --format=torch")


class Reader:
    """Our parameters out of a folder's tensors, by dotted name, float32."""

    def __init__(self, tensors: Tensors, architecture: Architecture, config: ModelConfig):
        self._tensors, self._architecture, self._config = tensors, architecture, config
        self._top = top_of(architecture, config)
        self._blocks = tuple(architecture.blocks(config))
        self._shapes = {name: leaf.value.shape for name, leaf in named(declare(LanguageModel(config))).items()}

    def check(self) -> None:
        """Raises ValueError for tensors that are missing, and for those that the class has not."""
        expected = {name for entry in self._top for name in entry.theirs}
        for repeat in range(self._config.repeats):
            for i, table in enumerate(self._blocks):
                prefix = prefix_of(self._architecture, self._config, repeat, i)
                expected |= {self._there(prefix, name) for entry in table for name in entry.theirs}
        if missing := sorted(expected - set(self._tensors)):
            raise ValueError(f"the safetensors files must have {missing[0]} ({len(missing)} tensors are missing)")
        allowed = {self._architecture.head} if self._config.tied else set()
        name, computed = self._architecture.name, self._architecture.computed
        extra = sorted(x for x in set(self._tensors) - expected - allowed if x.rpartition(".")[2] not in computed)
        if extra:
            raise ValueError(f"the safetensors files have {extra[0]}, which {name} has not ({len(extra)} such)")

    def read(self, name: str, index: tuple[Any, ...]) -> np.ndarray:
        """Part of a parameter: what a device holds of it."""
        if not name.startswith("layers."):
            return self._one(self._top, "", "", name)[index]
        _, block, path = name.split(".", 2)
        i = int(block.removeprefix("block_"))
        prefixes = [prefix_of(self._architecture, self._config, r, i) for r in range(self._config.repeats)[index[0]]]
        return np.stack([self._one(self._blocks[i], p, f"layers.{block}.", path)[index[1:]] for p in prefixes])

    def _there(self, prefix: str, name: str) -> str:
        """What the files call a tensor: its name, or another that the architecture knows."""
        others = [prefix + other for known, other in self._architecture.aliases if known == name]
        return next((other for other in others if other in self._tensors), prefix + name)

    def _one(self, table: Table, theirs: str, ours: str, name: str) -> np.ndarray:
        entry = next(entry for entry in table if name in entry.ours)
        arrays = {n: to_numpy(self._tensors[self._there(theirs, n)]).astype(np.float32) for n in entry.theirs}
        skip = 1 if ours else 0  # the axis of the layers
        return read_entry(entry, arrays, {n: self._shapes[ours + n][skip:] for n in entry.ours}, theirs)[name]


def prefix_of(architecture: Architecture, config: ModelConfig, repeat: int, position: int) -> str:
    """What the tensors begin with of the layer that holds ours."""
    return architecture.layer.format((repeat * len(config.pattern) + position) // architecture.span)


def top_of(architecture: Architecture, config: ModelConfig) -> Table:
    """The entries that are no layer's: the head only where it is not the embedding."""
    return tuple(e for e in architecture.top if not (config.tied and architecture.head in e.theirs))


def _written(
    architecture: Architecture, config: ModelConfig, params: Any, dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
    top = {name: value for name, value in params.items() if name != "layers"}
    yield from _cast(write(top_of(architecture, config), jax.device_get(top)), dtype)
    for repeat in range(config.repeats):
        for i, table in enumerate(architecture.blocks(config)):
            block = jax.device_get(jax.tree.map(lambda x, r=repeat: x[r], params["layers"][f"block_{i}"]))
            prefix = prefix_of(architecture, config, repeat, i)
            yield from _cast(write(table, named(block)), dtype, prefix)


def _cast(tensors: dict[str, np.ndarray], dtype: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    return ((prefix + name, array.astype(dtype)) for name, array in tensors.items())
