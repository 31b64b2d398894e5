"""One label for a whole sequence: a tower, bidirectional if wanted, pooled over time, and a linear head."""

from __future__ import annotations

from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import linear
from jaxseq.model.bidirectional import BidirectionalBlock
from jaxseq.model.block import Block
from jaxseq.model.tower import Tower


class Classifier(Tower):
    """Logits of `classes` from tokens (B, T) or features (B, T, F).

    Attributes:
      classes: how many labels there are.
      pool: "mean" over the valid tokens, or "last" of them.
    """

    classes: int = 2
    pool: Literal["mean", "last"] = "mean"

    @nn.compact
    def __call__(self, inputs: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Logits (B, classes) float32.

        Args:
          inputs: (B, T) int tokens, or (B, T, F) features, which a linear map with a bias takes to the width.
          mask: (B, T) bool, False at padding, which changes nothing.

        Raises:
          ValueError: `classes` or `pool` is not usable, or inputs are neither.
        """
        if self.classes < 1 or self.pool not in ("mean", "last"):
            raise ValueError(f"classes must be at least 1 and pool mean or last, got {self.classes} and {self.pool!r}")
        x, _ = self.stack(self._enter(inputs), None, None, mask)
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        pooled = mean(x, mask) if self.pool == "mean" else last(x, mask)
        return linear(self, "w_label", pooled, self.classes, ("embed", None), bias=True)

    def _enter(self, inputs: jax.Array) -> jax.Array:
        if jnp.issubdtype(inputs.dtype, jnp.integer) and inputs.ndim == 2:
            return self.embed(self.make_table(), inputs)
        if not jnp.issubdtype(inputs.dtype, jnp.floating) or inputs.ndim != 3:
            raise ValueError(f"inputs must be (B, T) int or (B, T, F) float, got {inputs.dtype} {inputs.shape}")
        return linear(self, "w_enter", inputs.astype(self.config.dtype), self.config.width, (None, "embed"), bias=True)


class BidirectionalClassifier(Classifier):
    """A Classifier whose layers see the whole sequence, as in the Long Range Arena's recipes of S5 and LRU."""

    block: ClassVar[type[Block]] = BidirectionalBlock


def mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over valid tokens (B, D) float32 or wider of x (B, T, D); zero where there are none."""
    weight = mask[..., None].astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.sum(x * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1)


def last(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The last valid token (B, D) float32 or wider of x (B, T, D); the first token where there is none."""
    place = jnp.max(jnp.where(mask, jnp.arange(x.shape[1]), 0), axis=1)
    chosen = jnp.take_along_axis(x, place[:, None, None], axis=1)[:, 0]
    return chosen.astype(jnp.promote_types(x.dtype, jnp.float32))
