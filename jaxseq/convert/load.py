"""A model from any folder that we can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxseq.checkpoint import read_model
from jaxseq.model import LanguageModel
from jaxseq.sharding import make_mesh


def load_model(folder: str | Path, mesh: Mesh | None = None) -> tuple[LanguageModel, Any]:
    """The model of a workdir (its latest checkpoint) or of a folder of Hugging Face, and its parameters.

    Args:
      folder: with `checkpoints/`, or with a `config.json` of transformers and safetensors files.
      mesh: what parameters out of safetensors are laid out on; one device if None.

    Raises:
      FileNotFoundError, ValueError: as `checkpoint.read_model` and `convert.hf.read_hf` do.
      ModuleNotFoundError: safetensors is not installed (the extra `convert`).
    """
    if is_workdir(folder):
        _, model, params, _ = read_model(folder)
        return model, params
    from jaxseq.convert.hf import read_hf

    return read_hf(folder, make_mesh(devices=jax.devices()[:1]) if mesh is None else mesh)


def is_workdir(folder: str | Path) -> bool:
    """Whether a folder is one of a run."""
    return (Path(folder) / "checkpoints").is_dir()
