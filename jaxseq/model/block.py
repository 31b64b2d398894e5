"""One residual block: norm -> mixer, norm -> MLP."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from jaxseq.mixers import MIXERS
from jaxseq.mixers.base import Depth, Mixer
from jaxseq.model.config import ModelConfig
from jaxseq.model.mlp import MLP
from jaxseq.model.norm import norm
from jaxseq.sharding import constrain, param


class Block(nn.Module):
    """s x + mixer(norm(x)), then x + mlp(norm(x)) or, "parallel", both at once of one norm; s is a learned scalar if
    `config.residual_scale`. For mixers in `config.post_norm` s x + norm(mixer(x)), then x + norm(mlp(x)). "deepnorm":
    the stream is n = norm(x), s α n + mixer(n), then the same with the MLP and without s (Wang et al. 2022, "DeepNet",
    arXiv 2203.00555, section 3; MiniMax-01).
    """

    config: ModelConfig
    mixer: str

    @nn.compact
    def __call__(
        self, x: jax.Array, state: Any, reset: Any, mask: Any, depth: Depth | None = None
    ) -> tuple[jax.Array, Any, Any]:
        """x (B, T, D), the mixer's state, and what the first layer of its kind gives to the others.

        See Mixer for reset, mask and depth, which only mixers with `uses_depth` are given.
        """
        config, deep = self.config, self.config.residual == "deepnorm"
        before, after = (self._same, self._norm) if self.mixer in config.post_norm else (self._norm, self._same)
        normed = before("mixer_norm", x)
        y, state, first = self.mix(normed, state, reset, mask, depth)
        y = self._skip(config.residual_factor * normed if deep else x) + after("mixer_norm", y)
        if config.hidden:
            normed = normed if config.residual == "parallel" else before("mlp_norm", y)
            y = config.residual_factor * normed if deep else y
            y = y + after("mlp_norm", MLP(config.hidden, config.mlp, config.mlp_bias, name="mlp")(normed))
        return constrain(y, "batch", "time", None), state, first

    def mix(self, x: jax.Array, state: Any, reset: Any, mask: Any, depth: Depth | None) -> tuple[jax.Array, Any, Any]:
        """The mixer of x, its state, and what its first layer gives. Inside `@nn.compact`."""
        return run(make_mixer(self.config, self.mixer, name="mixer"), x, state, reset, mask, depth)

    def _norm(self, name: str, x: jax.Array) -> jax.Array:
        return norm(self, name, x, self.config)

    def _same(self, name: str, x: jax.Array) -> jax.Array:
        return x

    def _skip(self, x: jax.Array) -> jax.Array:
        if not self.config.residual_scale:
            return x
        return x * self.param("skip", param(nn.initializers.ones), ()).astype(x.dtype)


def run(
    mixer: Mixer, x: jax.Array, state: Any, reset: Any, mask: Any, depth: Depth | None
) -> tuple[jax.Array, Any, jax.Array | None]:
    """What a mixer gives: y, its state, and what its first layer gives to the others (None if nothing)."""
    if not mixer.uses_depth:
        return *mixer(x, state=state, reset=reset, mask=mask), None
    with_depth: Any = mixer
    return with_depth(x, state=state, reset=reset, mask=mask, depth=depth)


def make_mixer(config: ModelConfig, kind: str, **module: Any) -> Mixer:
    """The mixer `kind` with the options the config gives it."""
    return MIXERS[kind](width=config.width, **config.options.get(kind, {}), **module)
