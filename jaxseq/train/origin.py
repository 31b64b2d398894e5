"""Where the parameters of a fresh run come from: a seed, or a folder of Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jax.sharding import Mesh

from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, declare, make_params


def adopt(config: Experiment) -> Experiment:
    """The experiment with the model of `init.from_hf`, if it names a folder.

    Raises FileNotFoundError and ValueError as `convert.load.read_folder_config` does, and ModuleNotFoundError without
    safetensors (the extra `convert`).
    """
    if config.init.from_hf is None:
        return config
    from jaxseq.convert.load import read_folder_config

    model = read_folder_config(config.init.from_hf)
    return replace(config, model=replace(model, dtype=config.model.dtype, remat=config.model.remat))


def first_params(config: Experiment, mesh: Mesh) -> Any:
    """What `train.weights` keeps before the first step, float32 on the mesh. Raises as `adopt` and
    `convert.load.read_folder` do.
    """
    declared = declare(LanguageModel(config.model))
    return config.train.weights.first(_origin(config, mesh), declared, config.train.seed, mesh)


def _origin(config: Experiment, mesh: Mesh) -> Any:
    if config.init.from_hf is None:
        return make_params(LanguageModel(config.model), config.train.seed, mesh)
    from jaxseq.convert.load import read_folder

    return read_folder(config.init.from_hf, mesh)[1]
