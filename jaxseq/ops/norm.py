"""Normalisation in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def rms_norm(x: jax.Array, scale: jax.Array | None = None, eps: float = 1e-6) -> jax.Array:
    """x / sqrt(mean(x²) + eps) · scale over the last axis (Zhang & Sennrich 2019, eq. 4).

    x is (..., D), scale (D,). Computed in float32 or wider, returned in x's dtype.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = wide * lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return (y if scale is None else y * scale).astype(x.dtype)
