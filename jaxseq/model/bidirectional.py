"""A block that sees the whole document: a mixer forwards plus another one backwards in time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.mixers.base import Depth
from jaxseq.model.block import Block, make_mixer, run


class BidirectionalBlock(Block):
    """A Block whose mixer is the sum of one that runs forwards and one, with parameters of its own, backwards.

    It has no state to carry: it is given none, and gives None.
    """

    def mix(self, x: jax.Array, state: Any, reset: Any, mask: Any, depth: Depth | None) -> tuple[jax.Array, Any, Any]:
        """See Block."""
        there = make_mixer(self.config, self.mixer, name="mixer")
        back = make_mixer(self.config, self.mixer, name="mixer_back")
        y, _, first = run(there, x, None, reset, mask, depth)
        turned = None if depth is None else depth._replace(first=_flip(depth.first))
        z, _, _ = run(back, jnp.flip(x, 1), None, ends(reset), _flip(mask), turned)
        return y + jnp.flip(z, 1), None, first


def ends(reset: jax.Array | None) -> jax.Array | None:
    """Where documents start if time runs backwards: (B, T) bool, in backward order."""
    if reset is None:
        return None
    last = jnp.concatenate([reset[:, 1:], jnp.ones_like(reset[:, :1])], axis=1)
    return jnp.flip(last, 1)


def _flip(x: jax.Array | None) -> jax.Array | None:
    return None if x is None else jnp.flip(x, 1)
