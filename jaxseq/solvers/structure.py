"""The shape of dstep/dh, and the linear recurrence that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import over_time
from jaxseq.ops.linear_scan import linear_scan


@dataclass(frozen=True)
class Diagonal:
    """Every channel of the state depends on its own past alone: dstep/dh is diagonal, stored as (B, T, *state)."""

    def linearise(self, step: Callable[[jax.Array], jax.Array], h: jax.Array) -> tuple[jax.Array, jax.Array]:
        """step(h) and its Jacobian, by one JVP with a tangent of ones (exact because the Jacobian is diagonal)."""
        return jax.jvp(step, (h,), (jnp.ones_like(h),))

    def cut(self, jac: jax.Array, reset: jax.Array | None, mask: jax.Array | None) -> jax.Array:
        """The Jacobian with padding (`mask` False: the identity) and document starts (`reset`: zero) put in."""
        jac = jac if mask is None else jnp.where(over_time(mask, jac), jac, 1)
        return jac if reset is None else jnp.where(over_time(reset, jac), 0, jac)

    def scan(self, jac: jax.Array, b: jax.Array, *, method: str = "auto") -> jax.Array:
        """δ_t = J_t δ_{t-1} + b_t from δ_0 = 0."""
        return linear_scan(jac, b, method=method)

    def adjoint(self, jac: jax.Array, g: jax.Array, *, method: str = "auto") -> jax.Array:
        """λ_t = g_t + J_{t+1}ᵀ λ_{t+1} from λ_{T+1} = 0."""
        later = jnp.concatenate([jac[:, 1:], jnp.zeros_like(jac[:, :1])], axis=1)
        return linear_scan(later, g, reverse=True, method=method)

    def apply(self, jac: jax.Array, v: jax.Array) -> jax.Array:
        """J v, for the structure certificate."""
        return jac * v
