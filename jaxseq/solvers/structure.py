"""The shape of dstep/dh, and the linear recurrence that goes with it: states that keep to their channel.

A structure knows how to find a Jacobian of its shape by JVPs with structured tangents, and how to run
δ_t = J_t δ_{t-1} + b_t with it. States are what a cell's step takes: one array (B, T, D), or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops import sharded
from jaxseq.ops.algebra import DIAGONAL, ENTRIES, unless, where
from jaxseq.ops.coupled_scan import coupled_scan
from jaxseq.ops.linear_scan import linear_scan

Step = Callable[[Any], Any]
SHARDED = "sharded"  # the method of a scan whose time is split over the devices of the mesh axis "seq"


@dataclass(frozen=True)
class Diagonal:
    """Every channel has one state, which depends on its own past alone. The Jacobian is an array (B, T, D)."""

    algebra = DIAGONAL

    def linearise(self, step: Step, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        """step(h) and its Jacobian, by one JVP with a tangent of ones (exact because the Jacobian is diagonal)."""
        return jax.jvp(step, (h,), (jnp.ones_like(h),))

    def cut(self, jac: Any, reset: jax.Array | None, mask: jax.Array | None) -> Any:
        """The Jacobian with padding (`mask` False: the identity) and document starts (`reset`: zero) put in."""
        jac = jac if mask is None else where(mask, jac, self.algebra.identity(jac))
        return unless(reset, jac)

    def scan(self, jac: jax.Array, b: jax.Array, delta0: jax.Array | None = None, *, method: str = "auto") -> jax.Array:
        """δ_t = J_t δ_{t-1} + b_t from δ_0 (zero if None)."""
        if method == SHARDED:
            return sharded.linear_scan(jac, b, delta0)
        return linear_scan(jac, b, delta0, method=method)

    def apply(self, jac: Any, v: Any) -> Any:
        """J v."""
        return self.algebra.apply(jac, v)

    def norms(self, jac: Any) -> jax.Array:
        """|J| of every channel (B, T, D)."""
        return jnp.abs(jac)

    def scale(self, jac: Any, by: jax.Array) -> Any:
        """The Jacobian times a number for every channel (B, T, D)."""
        return jax.tree.map(lambda x: x * by, jac)

    def scale_state(self, b: Any, by: jax.Array) -> Any:
        """A state times a number for every channel (B, T, D)."""
        return jax.tree.map(lambda x: x * by, b)

    def pack(self, h: Any) -> Any:
        """A state as the algebra takes it."""
        return h

    def unpack(self, packed: Any, like: Any) -> Any:
        """The inverse of `pack`; `like` is a state."""
        return packed


@dataclass(frozen=True)
class Block(Diagonal):
    """Every channel has `size` states, which depend on each other's past and on no other channel's.

    A state is a tuple of `size` arrays; the Jacobian is `size` rows of `size` arrays (B, T, D).
    """

    size: int

    algebra = ENTRIES

    def linearise(self, step: Step, h: Any) -> tuple[Any, Any]:
        """step(h) and its Jacobian, by one JVP per state with a tangent of ones in that state."""
        ones, zeros = jnp.ones_like(h[0]), jnp.zeros_like(h[0])
        units = [tuple(ones if i == j else zeros for i in range(self.size)) for j in range(self.size)]
        after, columns = zip(*(jax.jvp(step, (h,), (unit,)) for unit in units), strict=True)
        return after[0], tuple(zip(*columns, strict=True))

    def scan(self, jac: Any, b: Any, delta0: Any = None, *, method: str = "auto") -> Any:
        """δ_t = J_t δ_{t-1} + b_t from δ_0 (zero if None)."""
        if method == SHARDED:
            return sharded.coupled_scan(jac, b, delta0)
        return coupled_scan(jac, b, delta0, method=method)

    def norms(self, jac: Any) -> jax.Array:
        """Frobenius norm of every channel's block (B, T, D)."""
        return jnp.sqrt(sum(jnp.square(x) for x in jax.tree.leaves(jac)))
