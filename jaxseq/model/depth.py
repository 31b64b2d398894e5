"""Where each layer stands among those of its kind: what is scanned over depth beside the parameters."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Depth
from jaxseq.model.block import make_mixer
from jaxseq.model.config import ModelConfig
from jaxseq.sharding import param

Place = tuple[jax.Array, jax.Array, jax.Array | None]  # index, place (repeats,), rows (repeats, n) or None
Firsts = dict[str, jax.Array]


def places(module: nn.Module, config: ModelConfig) -> tuple[Place | None, ...]:
    """What is scanned over depth, for each mixer of the pattern; None for mixers that do not use it.

    Declares the tables of mixers that have one: `kind`_table (layers of that kind, table_width), zeros at first. Called
    inside `@nn.compact`.
    """
    rows = {kind: _rows(module, config, kind) for kind in dict.fromkeys(config.pattern)}
    return tuple(_place(config, i, rows[kind]) for i, kind in enumerate(config.pattern))


def depth_of(config: ModelConfig, kind: str, place: Place | None, firsts: Firsts) -> Depth | None:
    """The Depth of a layer from its place, inside the scan."""
    if place is None:
        return None
    index, among_all, row = place
    return Depth(index, layers_of(config, kind), row, firsts.get(kind), among_all, config.layers)


def layers_of(config: ModelConfig, kind: str) -> int:
    """How many layers of the model are of that kind."""
    return config.repeats * config.pattern.count(kind)


def no_firsts(config: ModelConfig, x: jax.Array) -> Firsts:
    """Zeros (B, T, first_width) by kind, for the mixers whose first layer gives something to the others."""
    widths = {kind: make_mixer(config, kind, parent=None).first_width() for kind in dict.fromkeys(config.pattern)}
    return {kind: jnp.zeros((*x.shape[:2], n), x.dtype) for kind, n in widths.items() if n is not None}


def _rows(module: nn.Module, config: ModelConfig, kind: str) -> jax.Array | None:
    mixer = make_mixer(config, kind, parent=None)
    width, layers = mixer.table_width(), layers_of(config, kind)
    if width is None:
        return None
    zeros = param(nn.initializers.zeros, "layers", "inner", decay=False)
    return mixer.rows(module.param(f"{kind}_table", zeros, (layers, width)))


def _place(config: ModelConfig, i: int, rows: jax.Array | None) -> Place | None:
    kind, pattern = config.pattern[i], config.pattern
    if not make_mixer(config, kind, parent=None).uses_depth:
        return None
    repeat = jnp.arange(config.repeats)
    index = repeat * pattern.count(kind) + pattern[:i].count(kind)
    return index, repeat * len(pattern) + i, None if rows is None else rows[index]
