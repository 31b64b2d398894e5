"""The language model: embedding, a scanned stack of blocks, a final norm and a head."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import scale
from jaxseq.model.block import Block, make_mixer
from jaxseq.model.config import ModelConfig
from jaxseq.ops import matmul, rms_norm
from jaxseq.sharding import constrain, param
from jaxseq.solvers.solve import SAVED

_KEEP_STATES = jax.checkpoint_policies.save_only_these_names(SAVED)
REMAT = {
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _KEEP_STATES
    ),
    "states": _KEEP_STATES,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Repeat(nn.Module):
    """One pass through the layer pattern: the unit that is scanned over depth."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array, state: Any, reset: Any, mask: Any) -> tuple[jax.Array, Any]:
        """x (B, T, D) and one state per mixer of the pattern."""
        states = [None] * len(self.config.pattern) if state is None else state
        after = []
        for i, name in enumerate(self.config.pattern):
            x, new = Block(self.config, name, name=f"block_{i}")(x, states[i], reset, mask)
            after.append(new)
        return x, tuple(after)


class LanguageModel(nn.Module):
    """Next-token logits with recurrent state, `model.apply({"params": params}, tokens, state=state, reset=reset)`."""

    config: ModelConfig

    def init_state(self, batch: int) -> Any:
        """The state before a document: one entry per mixer of the pattern, each leaf (repeats, batch, ...)."""
        config = self.config
        repeats = config.layers // len(config.pattern)

        def stacked(name: str) -> Any:
            state = make_mixer(config, name, parent=None).init_state(batch)
            return jax.tree.map(lambda x: jnp.repeat(x[None], repeats, axis=0), state)

        return tuple(stacked(name) for name in config.pattern)

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
          state: as returned by an earlier call, or None before a document.
          reset: (B, T) bool, True where a document starts.
          mask: (B, T) bool, False at padding, which then changes nothing; logits there are unspecified.
        """
        config = self.config
        table = self.param(
            "embedding",
            param(nn.initializers.normal(config.width**-0.5), "vocab", "embed", decay=False),
            (config.vocab, config.width),
        )
        x = constrain(jnp.take(table, tokens, axis=0).astype(config.dtype), "batch", "time", None)
        x, state = self._stack(x, state, reset, mask)
        x = rms_norm(x, scale(self, "norm", config.width, "embed"))
        logits = matmul(x, self._head(table), jnp.promote_types(x.dtype, jnp.float32))
        return constrain(logits, "batch", "time", "vocab"), state

    def _stack(self, x: jax.Array, state: Any, reset: Any, mask: Any) -> tuple[jax.Array, Any]:
        config = self.config
        unit = Repeat if config.remat == "none" else nn.remat(Repeat, policy=REMAT[config.remat], prevent_cse=False)
        carried: Any = nn.broadcast if state is None else 0
        stack: Any = nn.scan(
            unit,
            variable_axes={"params": 0, "diagnostics": 0},
            split_rngs={"params": True},
            in_axes=(carried, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=config.layers // len(config.pattern),
            metadata_params={"axis": "layers"},
        )
        return stack(config, name="layers")(x, state, reset, mask)

    def _head(self, table: jax.Array) -> jax.Array:
        if self.config.tied:
            return table.T
        init = nn.initializers.normal(self.config.width**-0.5)
        return self.param("head", param(init, "embed", "vocab"), (self.config.width, self.config.vocab))
