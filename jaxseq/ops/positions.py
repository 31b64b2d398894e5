"""Where a token is in its document, and turning vectors by that: rotary positions."""

from __future__ import annotations

from math import pi

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def place(length: jax.Array, reset: jax.Array | None, mask: jax.Array | None, time: int) -> tuple[jax.Array, jax.Array]:
    """Which document each token belongs to, and where in it, (B, T) int32 each.

    Document 0 is the one that the state belongs to, of which `length` (B,) tokens have been seen; every reset starts
    another. A position counts valid tokens; padding has the position of the valid token before it (-1 if none).
    """
    if mask is None:
        valid, count = 1, jnp.arange(1, time + 1, dtype=jnp.int32)
    else:
        valid, count = mask.astype(jnp.int32), jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    if reset is None:
        position = count - 1 + length[:, None]
        return jnp.zeros_like(position), position
    start = lax.cummax(jnp.where(reset, count - valid, -length[:, None]), axis=1)
    return jnp.cumsum(reset, axis=1, dtype=jnp.int32), count - 1 - start


def rotate(x: jax.Array, position: jax.Array, base: float, turned: int | None = None) -> jax.Array:
    """R_t x for x (B, T, H, K) and int positions (B, T), in x's dtype; angles and products are in float32 or wider.

    The first `turned` entries are turned (default: all K), the others stay. A float32 product t · base^(-2i/K) is off
    by up to 0.01 radians at t = 100,000. So the angle is counted in units of 2^-32 turns, as integers, which wrap
    around where whole turns should drop out: its error is t · 7e-10 radians.
    """
    turned = x.shape[-1] if turned is None else turned
    if not turned:
        return x
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    turns = base ** (-np.arange(0, turned, 2) / turned) / (2 * pi)
    units = position[..., None, None].astype(jnp.uint32) * np.round(turns * 2**32).astype(np.uint32)
    angle = lax.bitcast_convert_type(units, jnp.int32).astype(dtype) * (2 * pi / 2**32)
    left, right = jnp.split(x[..., :turned].astype(dtype), 2, axis=-1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([y, x[..., turned:]], axis=-1)
