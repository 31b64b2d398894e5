"""A model from any folder that we can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxseq.checkpoint import read_model
from jaxseq.convert.bar import Seen, unseen
from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.sharding import make_mesh


def load_model(folder: str | Path, mesh: Mesh | None = None, seen: Seen = unseen) -> tuple[LanguageModel, Any]:
    """The model of a workdir (its latest checkpoint) or of a folder with safetensors, and its parameters.

    Args:
      folder: with `checkpoints/`, or with a `config.json` of transformers or of ours and safetensors files.
      mesh: what parameters out of safetensors are laid out on; one device if None.
      seen: told how many of them are read.

    Raises:
      FileNotFoundError, ValueError: as `checkpoint.read_model` and `read_folder` do.
      ModuleNotFoundError: safetensors is not installed (the extra `convert`).
    """
    if is_workdir(folder):
        _, model, params, _ = read_model(folder)
        return model, params
    return read_folder(folder, make_mesh(devices=jax.devices()[:1]) if mesh is None else mesh, seen)


def read_folder(folder: str | Path, mesh: Mesh, seen: Seen = unseen) -> tuple[LanguageModel, Any]:
    """The model of a folder with safetensors, and its parameters laid out on the mesh.

    Raises as `convert.hf.read_hf`, or for a folder of `--format=torch` or pararnn as `convert.torch_folder.read_torch`
    or `convert.pararnn_folder.read_pararnn`.
    """
    from jaxseq.convert.hf import read_hf
    from jaxseq.convert.pararnn_folder import is_pararnn, read_pararnn
    from jaxseq.convert.torch_folder import is_torch, read_torch

    if is_pararnn(folder):
        return read_pararnn(folder, mesh, seen)
    return read_torch(folder, mesh, seen) if is_torch(folder) else read_hf(folder, mesh, seen)


def read_folder_config(folder: str | Path) -> ModelConfig:
    """The model of a folder with safetensors, without its parameters. Raises as `read_folder`."""
    from jaxseq.convert.hf import read_hf_config
    from jaxseq.convert.pararnn_folder import is_pararnn, read_pararnn_config
    from jaxseq.convert.torch_folder import is_torch, read_torch_config

    if is_pararnn(folder):
        return read_pararnn_config(folder)
    return read_torch_config(folder) if is_torch(folder) else read_hf_config(folder)[1]


def is_workdir(folder: str | Path) -> bool:
    """Whether a folder is one of a run."""
    return (Path(folder) / "checkpoints").is_dir()
