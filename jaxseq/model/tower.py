"""What every model has: tokens embedded, and a scanned stack of blocks."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.model.block import Block, make_mixer
from jaxseq.model.config import ModelConfig
from jaxseq.model.depth import Firsts, Place, depth_of, no_firsts, places
from jaxseq.model.norm import norm
from jaxseq.ops.remat import SAVED
from jaxseq.sharding import constrain, param

_KEEP_STATES = jax.checkpoint_policies.save_only_these_names(SAVED)
REMAT = {
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable, _KEEP_STATES
    ),
    "states": _KEEP_STATES,
    "full": jax.checkpoint_policies.nothing_saveable,
}
Carry = tuple[jax.Array, Firsts]


class Repeat(nn.Module):
    """One pass through the layer pattern: the unit that is scanned over depth."""

    config: ModelConfig
    block: type[Any] = Block

    @nn.compact
    def __call__(
        self, carry: Carry, state: Any, places: tuple[Place | None, ...], reset: Any, mask: Any
    ) -> tuple[Carry, Any]:
        """x (B, T, D) with what first layers gave, one state and one place per mixer of the pattern."""
        (x, firsts), config, after = carry, self.config, []
        states = [None] * len(config.pattern) if state is None else state
        for i, kind in enumerate(config.pattern):
            depth = depth_of(config, kind, places[i], firsts)
            x, new, first = self.block(config, kind, name=f"block_{i}")(x, states[i], reset, mask, depth)
            firsts = firsts if first is None else {**firsts, kind: first}
            after.append(new)
        return (x, firsts), tuple(after)


class Tower(nn.Module):
    """Embedding, blocks and the final norm: what a model's head stands on."""

    block: ClassVar[type[Any]] = Block

    config: ModelConfig

    def init_state(self, batch: int) -> Any:
        """The state before a document: one entry per mixer of the pattern, each leaf (repeats, batch, ...)."""
        config = self.config

        def stacked(name: str) -> Any:
            state = make_mixer(config, name, parent=None).init_state(batch)
            return jax.tree.map(lambda x: jnp.repeat(x[None], config.repeats, axis=0), state)

        return tuple(stacked(name) for name in config.pattern)

    def make_table(self) -> jax.Array:
        """The table (vocab, D). Inside `@nn.compact`."""
        config = self.config
        init = nn.initializers.normal(config.width**-0.5)
        return self.param("embedding", param(init, "vocab", "embed", decay=False), (config.vocab, config.width))

    def embed(self, table: jax.Array, tokens: jax.Array) -> jax.Array:
        """Tokens (B, T) as x (B, T, D) in the config's dtype. Inside `@nn.compact`."""
        config = self.config
        # Whole rows of the table: from columns over `fsdp` the compiler finds no way to rows of the batch over it.
        rows, tokens = constrain(table, "vocab", None), constrain(tokens, "batch", "time")
        x = constrain(jnp.take(rows, tokens, axis=0).astype(config.dtype), "batch", "time", None)
        x = x if config.embedding_scale == 1 else x * config.embedding_scale
        return norm(self, "embedding_norm", x, config) if config.embedding_norm else x

    def stack(self, x: jax.Array, state: Any, reset: Any, mask: Any) -> tuple[jax.Array, Any]:
        """All blocks and the final norm of x (B, T, D), and the states after. Inside `@nn.compact`.

        The blocks are scanned over depth, but applied one by one with a state that `model.apart` took apart, a list.
        """
        carry = x, no_firsts(self.config, x)
        layers = self._one_by_one if isinstance(state, list) else self._scanned
        (x, _), state = layers(carry, state, places(self, self.config), reset, mask)
        return norm(self, "norm", x, self.config), state

    def _scanned(self, carry: Carry, state: Any, *others: Any) -> tuple[Carry, Any]:
        config = self.config
        unit = Repeat if config.remat == "none" else nn.remat(Repeat, policy=REMAT[config.remat], prevent_cse=False)
        carried: Any = nn.broadcast if state is None else 0
        stacked: Any = {"diagnostics": 0, "stability": 0, "trace": 0} | ({} if config.shared_layers else {"params": 0})
        scanned: Any = nn.scan(
            unit,
            variable_axes=stacked,
            variable_broadcast="params" if config.shared_layers else False,
            split_rngs={"params": not config.shared_layers},
            in_axes=(carried, 0, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=config.repeats,
            metadata_params={"axis": "layers"},
        )
        return scanned(config, self.block, name="layers")(carry, state, *others)

    def _one_by_one(self, carry: Carry, state: list[Any], places: Any, *others: Any) -> tuple[Carry, Any]:
        config, after = self.config, []
        shared = Repeat(config, self.block, name="layers") if config.shared_layers else None
        for i in range(config.repeats):
            layer = shared or Repeat(config, self.block, name=f"layers_{i}")
            carry, new = layer(carry, state[i], jax.tree.map(lambda x, i=i: x[i], places), *others)
            after.append(new)
        return carry, after
