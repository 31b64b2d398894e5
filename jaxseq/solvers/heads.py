"""Structures of states that mix: all channels of a head with each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops import sharded
from jaxseq.ops.block_scan import BLOCK, block_scan
from jaxseq.solvers.structure import SHARDED, Diagonal, Step

BUDGET = 2**32  # bytes


@dataclass(frozen=True)
class Heads(Diagonal):
    """Heads of `size` neighbouring channels, whose states (one or several per channel) all depend on each other's past.

    The Jacobian is an array (B, T, D / size, K, K) with K = size times the states of a channel: K² numbers a head and
    step, K³ work to compose two. For sizes up to about 64.

    Attributes:
      size: channels of a head; None for all of them.
      budget: bytes that one Jacobian may take.
    """

    size: int | None
    budget: int = BUDGET

    algebra = BLOCK

    def linearise(self, step: Step, h: Any) -> tuple[Any, jax.Array]:
        """step(h) and its Jacobian, by one JVP for every state of a head, in all heads at once.

        Raises ValueError if the Jacobian takes more bytes than the budget.
        """
        self._check(h)
        after, forward = jax.linearize(step, h)
        columns = jax.vmap(forward)(self._units(h))
        return after, jnp.moveaxis(jax.vmap(self.pack)(columns), 0, -1)

    def scan(self, jac: jax.Array, b: Any, delta0: Any = None, *, method: str = "auto") -> Any:
        """δ_t = J_t δ_{t-1} + b_t from δ_0 (zero if None)."""
        scan = sharded.block_scan if method == SHARDED else partial(block_scan, method=method)
        start = None if delta0 is None else self.pack(delta0)
        return self.unpack(scan(jac, self.pack(b), start), b)

    def apply(self, jac: jax.Array, v: Any) -> Any:
        """J v."""
        return self.unpack(super().apply(jac, self.pack(v)), v)

    def norms(self, jac: jax.Array) -> jax.Array:
        """Frobenius norm of every head's matrix (B, T, heads)."""
        return jnp.sqrt(jnp.sum(jnp.square(jac), axis=(-1, -2)))

    def scale(self, jac: jax.Array, by: jax.Array) -> jax.Array:
        """The Jacobian times a number for every head (B, T, heads)."""
        return jac * by[..., None, None]

    def scale_state(self, b: Any, by: jax.Array) -> Any:
        """A state times a number for every head (B, T, heads)."""
        return self.unpack(self.pack(b) * by[..., None], b)

    def pack(self, h: Any) -> jax.Array:
        """(..., D) or a tuple of them as (..., heads, K), K counting state by state."""
        parts = [x.reshape(*x.shape[:-1], -1, self.width(x)) for x in jax.tree.leaves(h)]
        return jnp.concatenate(parts, axis=-1)

    def unpack(self, packed: jax.Array, like: Any) -> Any:
        """The inverse of `pack`; `like` is a state."""
        leaves, structure = jax.tree.flatten(like)
        parts = jnp.split(packed, len(leaves), axis=-1)
        return jax.tree.unflatten(structure, [x.reshape(*x.shape[:-2], -1) for x in parts])

    def _units(self, h: Any) -> Any:
        """For every state of a head a tangent with a one there, in all heads: leaves (K, ..., D)."""
        leaves, structure = jax.tree.flatten(h)
        width = self.width(leaves[0])
        parts = jnp.split(jnp.eye(len(leaves) * width, dtype=leaves[0].dtype), len(leaves), axis=1)

        def spread(part, x):
            wide = jnp.tile(part, x.shape[-1] // width)
            return jnp.broadcast_to(wide.reshape(-1, *(1,) * (x.ndim - 1), x.shape[-1]), (len(part), *x.shape))

        return jax.tree.unflatten(structure, [spread(*pair) for pair in zip(parts, leaves, strict=True)])

    def width(self, x: jax.Array) -> int:
        """Channels of a head of the state x (..., D). Raises ValueError if they do not divide D."""
        size = x.shape[-1] if self.size is None else self.size
        if x.shape[-1] % size:
            raise ValueError(f"heads of {size} channels must divide a state of {x.shape[-1]}")
        return size

    def bytes(self, h: Any) -> int:
        """What the Jacobian for the states h takes."""
        leaves = jax.tree.leaves(h)
        return sum(x.size for x in leaves) * len(leaves) * self.width(leaves[0]) * leaves[0].dtype.itemsize

    def _check(self, h: Any) -> None:
        if self.bytes(h) > self.budget:
            raise ValueError(
                f"the Jacobian of {type(self).__name__}() for states of shape {jax.tree.leaves(h)[0].shape} takes "
                f"{self.bytes(h)} bytes, over the budget of {self.budget}: use smaller heads, QuasiNewton or "
                f"Sequential, or raise budget"
            )


@dataclass(frozen=True)
class Dense(Heads):
    """All channels mix: `Heads` with one head."""

    size: int | None = None
