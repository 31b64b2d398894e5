"""Where the parameters of a fresh run come from: a seed, or a folder of Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jax.sharding import Mesh

from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, make_params


def adopt(config: Experiment) -> Experiment:
    """The experiment with the model of `init.from_hf`, if it names a folder.

    Raises FileNotFoundError and ValueError as `convert.hf.read_hf_config` does, and ModuleNotFoundError without
    safetensors (the extra `convert`).
    """
    if config.init.from_hf is None:
        return config
    from jaxseq.convert.hf import read_hf_config

    _, model = read_hf_config(config.init.from_hf)
    return replace(config, model=replace(model, dtype=config.model.dtype, remat=config.model.remat))


def first_params(config: Experiment, mesh: Mesh) -> Any:
    """Float32 parameters on the mesh. Raises as `adopt` and `convert.hf.read_hf` do."""
    if config.init.from_hf is None:
        return make_params(LanguageModel(config.model), config.train.seed, mesh)
    from jaxseq.convert.hf import read_hf

    return read_hf(config.init.from_hf, mesh)[1]
