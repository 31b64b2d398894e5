"""Time in chunks: (B, T, H, K) as (M, B, G, R, C, K), and which documents the steps of a chunk belong to.

M chunks of C steps, and the H heads as G groups of R. A chunk is what one matmul treats at once, so its axes come last.
Chunks are filled up with zeros.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def split(x: jax.Array, groups: int, size: int) -> jax.Array:
    """(B, T, H, K) in chunks of `size` steps (M, B, G, R, C, K); (B, T) as if H and K were 1."""
    x = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), (0, 0), (0, 0)))
    x = x.reshape(x.shape[0], -1, size, groups, x.shape[2] // groups, x.shape[3])
    return jnp.transpose(x, (1, 0, 3, 4, 2, 5))


def join(y: jax.Array, time: int) -> jax.Array:
    """Chunks (M, B, G, R, C, V) as steps (B, T, H, V)."""
    y = jnp.transpose(y, (1, 0, 4, 2, 3, 5))
    return y.reshape(y.shape[0], -1, y.shape[3] * y.shape[4], y.shape[5])[:, :time]


def grouped(x: jax.Array, groups: int) -> jax.Array:
    """(B, H, ...) with its heads in two axes (B, G, R, ...)."""
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:])


def heads(x: jax.Array) -> jax.Array:
    """(B, G, R, ...) with its heads in one axis."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def documents(reset: jax.Array | None, size: int) -> tuple[jax.Array | None, jax.Array | None]:
    """The number of every step's document (M, B, 1, 1, C), and of the document before every chunk (M, B, 1, 1)."""
    if reset is None:
        return None, None
    document = jnp.cumsum(reset, axis=1, dtype=jnp.int32)
    document = jnp.pad(document, ((0, 0), (0, -reset.shape[1] % size)), mode="edge")
    document = jnp.swapaxes(document.reshape(reset.shape[0], -1, 1, 1, size), 0, 1)
    last = document[..., -1]
    return document, jnp.concatenate([jnp.zeros_like(last[:1]), last[:-1]])
