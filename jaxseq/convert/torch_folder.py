"""Whole models from and to a folder for plain PyTorch: config.json, safetensors, and the code that runs them.

    config.json            the ModelConfig, and what transformers' Auto classes ask for
    model*.safetensors     parameters by our own dotted names, layers apart: layers.3.mixer.w_x
    modeling_jaxseq.py     every mixer in PyTorch

Any model can be written, because the code beside it is ours. As in `hf`, no more than one layer is in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseq.config import from_json, to_json
from jaxseq.convert.bar import Seen, each, unseen
from jaxseq.convert.hf import SHARD_BYTES, laid_out
from jaxseq.convert.layout import to_numpy
from jaxseq.convert.tensors import Tensors, write_tensors
from jaxseq.data import ByteTokenizer
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.sharding import dotted, named

MODEL_TYPE = "jaxseq"
CODE = Path(__file__).with_name("modeling_jaxseq.py")
AUTO = {"AutoConfig": "modeling_jaxseq.JaxseqConfig", "AutoModelForCausalLM": "modeling_jaxseq.JaxseqForCausalLM"}


def is_torch(folder: str | Path) -> bool:
    """Whether a folder is one of these. Raises ValueError where its config.json is not JSON."""
    path = Path(folder) / "config.json"
    return path.is_file() and _read(path).get("model_type") == MODEL_TYPE


def read_torch_config(folder: str | Path) -> ModelConfig:
    """What the config.json of a folder says. Raises ValueError for a field that is unknown or does not fit.

    What a folder that is older than a field does not say has its default.
    """
    return from_json(ModelConfig, _read(Path(folder) / "config.json")["jaxseq"], defaults=True)


def read_torch(folder: str | Path, mesh: Mesh, seen: Seen = unseen) -> tuple[LanguageModel, Any]:
    """The model of a folder, and its parameters (float32) laid out on the mesh; `seen` is told of each.

    Raises FileNotFoundError and ValueError as `Tensors` does, and ValueError for a tensor that is missing, unknown or
    wrongly shaped, by its name.
    """
    config, tensors = read_torch_config(folder), Tensors(folder)
    declared = declare(LanguageModel(config))
    check_tensors(tensors, expected_of(config, declared))

    def one(path: Any, leaf: Any, sharding: Any) -> jax.Array:
        name = dotted(path)
        return jax.make_array_from_callback(leaf.value.shape, sharding, lambda i: part(tensors, config, name, i or ()))

    return LanguageModel(config), laid_out(one, declared, mesh, seen)


def write_torch(
    folder: Path,
    config: ModelConfig,
    params: Any,
    dtype: Any = np.float32,
    shard_bytes: int = SHARD_BYTES,
    seen: Seen = unseen,
) -> None:
    """Writes config.json, the tensors in `dtype`, and the code, into an empty folder. `seen` is told of each tensor.

    Raises ValueError for a mixer or a cell that the code does not have.
    """
    _check_supported(config)
    (folder / "config.json").write_text(json.dumps(_facts(config, dtype), indent=2) + "\n")
    shutil.copyfile(CODE, folder / CODE.name)
    total = len(expected_of(config, declare(LanguageModel(config))))
    write_tensors(folder, each(written(config, params, dtype), total, seen), shard_bytes)


def names_of(config: ModelConfig, name: str) -> list[str]:
    """The tensors that a parameter of ours is kept in: one for each layer that it is stacked over."""
    if not name.startswith("layers."):
        return [name]
    _, block, path = name.split(".", 2)
    i, period = int(block.removeprefix("block_")), len(config.pattern)
    return [f"layers.{repeat * period + i}.{path}" for repeat in range(1 if config.shared_layers else config.repeats)]


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def _facts(config: ModelConfig, dtype: Any) -> dict[str, Any]:
    """config.json."""
    names = {"architectures": ["JaxseqForCausalLM"], "model_type": MODEL_TYPE, "auto_map": AUTO}
    sizes = {"vocab_size": config.vocab, "hidden_size": config.width, "num_hidden_layers": config.layers}
    kept = {"dtype": np.dtype(dtype).name, "tie_word_embeddings": False, "use_cache": True}
    return {**names, **sizes, **kept, **_tokens(config), "jaxseq": to_json(config)}


def _tokens(config: ModelConfig) -> dict[str, Any]:
    """Facts of the byte-level tokenizer, whose ids a vocabulary of less than twice as many is a padding of."""
    tokenizer = ByteTokenizer()
    if not tokenizer.vocab <= config.vocab < 2 * tokenizer.vocab:
        return {}
    ends = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.bos}
    return {**ends, "tokenizer": "bytes", "drawn_vocab": tokenizer.vocab}


def _check_supported(config: ModelConfig) -> None:
    from jaxseq.convert import modeling_jaxseq as code

    for kind in dict.fromkeys(config.pattern):
        if kind not in code.MIXERS:
            raise ValueError(f"--format=torch has no mixer {kind}: it has {', '.join(code.MIXERS)}")
    cell = config.options.get("para_rnn", {}).get("cell", "para_gru")
    if "para_rnn" in config.pattern and cell not in code.CELLS:
        raise ValueError(f"--format=torch has no cell {cell}: it has {', '.join(code.CELLS)}")


def written(config: ModelConfig, params: Any, dtype: Any) -> Iterator[tuple[str, np.ndarray]]:
    """All parameters by the names of the folder's tensors, a layer after the other."""
    top = {name: value for name, value in params.items() if name != "layers"}
    yield from ((name, np.asarray(value).astype(dtype)) for name, value in named(jax.device_get(top)).items())
    for repeat in range(1 if config.shared_layers else config.repeats):
        for i in range(len(config.pattern)):
            layer = params["layers"][f"block_{i}"]
            layer = layer if config.shared_layers else jax.tree.map(lambda x, r=repeat: x[r], layer)
            for name, value in named(jax.device_get(layer)).items():
                yield f"layers.{repeat * len(config.pattern) + i}.{name}", np.asarray(value).astype(dtype)


def part(tensors: Tensors, config: ModelConfig, name: str, index: tuple[Any, ...]) -> np.ndarray:
    """Part of a parameter: what a device holds of it."""
    names = names_of(config, name)
    if not name.startswith("layers.") or config.shared_layers:
        return to_numpy(tensors[names[0]]).astype(np.float32)[index]
    return np.stack([to_numpy(tensors[n]).astype(np.float32)[index[1:]] for n in names[index[0]]])


def expected_of(config: ModelConfig, declared: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a folder by name."""
    expected = {}
    for name, leaf in named(declared).items():
        stacked = name.startswith("layers.") and not config.shared_layers
        expected |= dict.fromkeys(names_of(config, name), leaf.value.shape[1 if stacked else 0 :])
    return expected


def check_tensors(tensors: Tensors, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError for a tensor that is missing, not expected, or of another shape, by its name."""
    if missing := sorted(set(expected) - set(tensors)):
        raise ValueError(f"the safetensors files must have {missing[0]} ({len(missing)} tensors are missing)")
    if extra := sorted(set(tensors) - set(expected)):
        raise ValueError(f"the safetensors files have {extra[0]}, which the model has not ({len(extra)} such)")
    for name, shape in expected.items():
        if (found := tensors.shape(name)) != shape:
            raise ValueError(f"{name} must be of shape {shape}, got {found}")
