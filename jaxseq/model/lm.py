"""The language model: a tower of blocks and a head."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.model.tower import Tower
from jaxseq.ops import matmul
from jaxseq.sharding import constrain, param


class LanguageModel(Tower):
    """Next-token logits with recurrent state, `model.apply({"params": params}, tokens, state=state, reset=reset)`."""

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        *,
        state: Any = None,
        reset: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Logits (B, T, vocab) float32 and the state after the last token.

        Args:
          tokens: (B, T) int.
          state: as returned by an earlier call, or None before a document. For a list of states see `model.apart`.
          reset: (B, T) bool, True where a document starts.
          mask: (B, T) bool, False at padding, which then changes nothing; logits there are unspecified.
        """
        table = self.make_table()
        x, state = self.stack(self.embed(table, tokens), state, reset, mask)
        logits = matmul(x, self._head(table), jnp.promote_types(x.dtype, jnp.float32))
        cap = self.config.logit_cap
        logits = logits if cap is None else cap * jnp.tanh(logits / cap)
        return constrain(logits, "batch", "time", "vocab"), state

    def _head(self, table: jax.Array) -> jax.Array:
        if self.config.tied:
            return table.T
        init = nn.initializers.normal(self.config.width**-0.5)
        return self.param("head", param(init, "embed", "vocab"), (self.config.width, self.config.vocab))
