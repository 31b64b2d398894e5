"""Causal depthwise convolution whose state is its last inputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.checks import check_bool, check_inexact, check_shapes


def causal_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    state: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """y_t = b + Σ_i w_i x_{t-W+1+i} within a document.

    Args:
      x: inputs (B, T, C), before any activation.
      w: taps (W, C), the last one for the current token. (torch conv1d weight (C, 1, W): transpose, no flip.)
      b: bias (C,).
      state: the last W-1 inputs of the sequence so far (B, W-1, C); zero if None.
      reset: (B, T) bool, True where a document starts: taps that reach before it read zero.
      mask: (B, T) bool, False at padding: such a token is skipped, as if it were not there.

    Returns:
      y (B, T, C) in x's dtype (unspecified but finite at padding), and the new state (B, W-1, C).
    """
    check_inexact(x=x, w=w, b=b, state=state)
    check_bool(reset=reset, mask=mask)
    check_shapes(x=(x, "B T C"), w=(w, "W C"), b=(b, "C"), reset=(reset, "B T"), mask=(mask, "B T"))
    past = w.shape[0] - 1
    if state is not None:
        check_shapes(x=(x, "B T C"), state=(state, f"B {past} C"))
    state = jnp.zeros((x.shape[0], past, x.shape[2]), x.dtype) if state is None else state.astype(x.dtype)
    document = jnp.zeros(x.shape[:2], jnp.int32) if reset is None else jnp.cumsum(reset, axis=1, dtype=jnp.int32)
    if mask is None:
        return _convolve(x, w, b, state, document if reset is not None else None)
    # Move the valid tokens together, convolve, and move the results back.
    place = jnp.where(mask, jnp.cumsum(mask, axis=1) - 1, x.shape[1])
    rows = jnp.arange(x.shape[0])[:, None]
    count = jnp.sum(mask, axis=1)
    packed = jnp.zeros_like(x).at[rows, place].set(x, mode="drop")
    packed_document = jnp.zeros_like(document).at[rows, place].set(document, mode="drop")
    y, _ = _convolve(packed, w, b, state, packed_document)
    y = jnp.take_along_axis(y, jnp.minimum(place, x.shape[1] - 1)[..., None], axis=1)
    return y, _last_inputs(packed, state, packed_document, count, document[:, -1])


def _convolve(x, w, b, state, document):
    past, time = w.shape[0] - 1, x.shape[1]
    padded = jnp.concatenate([state, x], axis=1)
    y = x * w[past]
    for i in range(past):
        tap = padded[:, i : i + time]
        if document is not None:
            origin = jnp.pad(document, ((0, 0), (past, 0)))[:, i : i + time]
            tap = jnp.where((origin == document)[..., None], tap, 0)
        y = y + tap * w[i]
    y = y if b is None else y + b
    time_left = jnp.full((x.shape[0],), time)
    if document is None:
        return y.astype(x.dtype), padded[:, time:]
    return y.astype(x.dtype), _last_inputs(x, state, document, time_left, document[:, -1])


def _last_inputs(x, state, document, count, last):
    """The W-1 inputs that end at token `count` of each row, zero where they belong to an earlier document."""
    past = state.shape[1]
    padded = jnp.concatenate([state, x], axis=1)
    origin = jnp.pad(document, ((0, 0), (past, 0)))
    index = count[:, None] + jnp.arange(past)
    kept = jnp.take_along_axis(origin, index, axis=1) == last[:, None]
    return jnp.where(kept[..., None], jnp.take_along_axis(padded, index[..., None], axis=1), 0)
