"""What every op means: one `lax.scan` over single steps, slow and obvious. Run in float64 by the tests.

Arrays are (B, T, ...). `reset` (B, T) is True where a document starts: the state before that step is zero.
`mask` (B, T) is False at padding: the step leaves the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def recurrence(
    step: Callable[[jax.Array, Any], jax.Array],
    u: Any,
    h0: jax.Array,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> jax.Array:
    """h_t = step(h_{t-1}, u_t) for every t: u has leaves (B, T, ...), h0 is (B, ...), the result (B, T, ...)."""
    batch, time = jax.tree.leaves(u)[0].shape[:2]
    reset = jnp.zeros((batch, time), bool) if reset is None else reset
    mask = jnp.ones((batch, time), bool) if mask is None else mask

    def body(h: jax.Array, xs: Any) -> tuple[jax.Array, jax.Array]:
        u_t, reset_t, mask_t = xs
        h = jnp.where(_like(reset_t, h), 0, h)
        h = jnp.where(_like(mask_t, h), step(h, u_t), h)
        return h, h

    time_major = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (u, reset, mask))
    return jnp.moveaxis(lax.scan(body, h0, time_major, reverse=reverse)[1], 0, 1)


def linear_scan(
    a: jax.Array, b: jax.Array, h0: jax.Array | None = None, *, reset: jax.Array | None = None, reverse: bool = False
) -> jax.Array:
    """h_t = a_t h_{t-1} + b_t, elementwise; a broadcasts against b (B, T, ...)."""
    dtype = jnp.result_type(a, b)
    start = jnp.zeros(b.shape[:1] + b.shape[2:], dtype) if h0 is None else h0.astype(dtype)
    pairs = (jnp.broadcast_to(a, b.shape).astype(dtype), b.astype(dtype))
    return recurrence(lambda h, ab: ab[0] * h + ab[1], pairs, start, reset=reset, reverse=reverse)


def causal_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    state: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """y_t = b + sum_i w_i x_{t-W+1+i} over the valid tokens of one document; the state is the last W-1 of them."""
    width = w.shape[0]
    window = jnp.zeros((x.shape[0], width - 1, x.shape[2]), x.dtype) if state is None else state
    windows = recurrence(
        lambda past, x_t: jnp.concatenate([past[:, 1:], x_t[:, None]], axis=1),
        x,
        jnp.concatenate([jnp.zeros_like(x[:, :1]), window], axis=1),
        reset=reset,
        mask=mask,
    )
    y = jnp.einsum("btwc,wc->btc", windows, w) + (0 if b is None else b)
    return y, windows[:, -1, 1:]


def _like(flag: jax.Array, h: jax.Array) -> jax.Array:
    return flag.reshape(flag.shape + (1,) * (h.ndim - flag.ndim))
