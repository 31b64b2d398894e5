"""The norm of a block, as the config names it."""

from __future__ import annotations

import flax.linen as nn
import jax

from jaxseq.mixers.base import scale
from jaxseq.model.config import ModelConfig
from jaxseq.ops import layer_norm, rms_norm
from jaxseq.sharding import param


def norm(module: nn.Module, name: str, x: jax.Array, config: ModelConfig) -> jax.Array:
    """x (B, T, D) normalised, with the gain `name` and, for "layer", the bias `name`_bias. Inside `@nn.compact`."""
    gain = scale(module, name, x.shape[-1], "embed")
    if config.norm == "rms":
        return rms_norm(x, gain, config.norm_eps)
    bias = module.param(f"{name}_bias", param(nn.initializers.zeros, "embed"), (x.shape[-1],))
    return layer_norm(x, gain, bias, config.norm_eps)
