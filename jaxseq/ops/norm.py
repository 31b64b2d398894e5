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


def layer_norm(
    x: jax.Array, scale: jax.Array | None = None, bias: jax.Array | None = None, eps: float = 1e-5
) -> jax.Array:
    """(x - mean(x)) / sqrt(var(x) + eps) · scale + bias over the last axis (Ba et al. 2016, eq. 4).

    x is (..., D), scale and bias (D,) or anything that broadcasts to x. Computed in float32 or wider, returned in x's
    dtype.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    y = wide * lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    y = y if scale is None else y * scale
    return (y if bias is None else y + bias).astype(x.dtype)


def l2_norm(x: jax.Array, eps: float = 1e-6) -> jax.Array:
    """x / sqrt(sum(x²) + eps) over the last axis: the keys of DeltaNet and its kin, a little shorter than 1.

    Computed in float32 or wider, returned in x's dtype. Its gradient at zero is finite.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * lax.rsqrt(jnp.sum(jnp.square(wide), axis=-1, keepdims=True) + eps)).astype(x.dtype)


def unit_norm(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """x / max(||x||, eps) over the last axis: the removal keys of RWKV-7, of length 1 unless shorter than eps.

    Computed in float32 or wider, returned in x's dtype. A row of zeros gives zeros, and the gradient g / eps.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    # The root's slope at zero is infinite: it is not taken where eps is the larger.
    length = jnp.where(square > eps**2, jnp.sqrt(jnp.where(square > eps**2, square, 1)), eps)
    return (wide / length).astype(x.dtype)
