"""One residual block: RMSNorm -> mixer, RMSNorm -> SwiGLU."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxseq.mixers import MIXERS
from jaxseq.mixers.base import Mixer, linear, scale
from jaxseq.model.config import ModelConfig
from jaxseq.ops import rms_norm
from jaxseq.sharding import constrain, param


class SwiGLU(nn.Module):
    """y = W_down (SiLU(W_gate x) W_up x) (Shazeer 2020, arXiv 2002.05202), x and y (B, T, D)."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        gate = linear(self, "w_gate", x, self.hidden, ("embed", "mlp"))
        up = linear(self, "w_up", x, self.hidden, ("embed", "mlp"))
        return linear(self, "w_down", nn.silu(gate) * up, x.shape[-1], ("mlp", "embed"))


class Block(nn.Module):
    """s x + mixer(norm(x)), then x + mlp(norm(x)); s is a learned scalar if `config.residual_scale`."""

    config: ModelConfig
    mixer: str

    @nn.compact
    def __call__(self, x: jax.Array, state: Any, reset: Any, mask: Any) -> tuple[jax.Array, Any]:
        """x (B, T, D) and the mixer's state; see Mixer for reset and mask."""
        width = self.config.width
        skip = x
        if self.config.residual_scale:
            skip = x * self.param("skip", param(nn.initializers.ones), ()).astype(x.dtype)
        normed = rms_norm(x, scale(self, "mixer_norm", width, "embed"))
        y, state = make_mixer(self.config, self.mixer, name="mixer")(normed, state=state, reset=reset, mask=mask)
        x = skip + y
        if self.config.hidden:
            normed = rms_norm(x, scale(self, "mlp_norm", width, "embed"))
            x = x + SwiGLU(self.config.hidden, name="mlp")(normed)
        return constrain(x, "batch", "time", None), state


def make_mixer(config: ModelConfig, kind: str, **module: Any) -> Mixer:
    """The mixer `kind` with the options the config gives it."""
    return MIXERS[kind](width=config.width, **config.options.get(kind, {}), **module)
