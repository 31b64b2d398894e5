"""A linear recurrence whose states are too large to keep: they are made, read and dropped chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.checks import accumulation_dtype, check_bool, check_inexact, check_positive, check_shapes
from jaxseq.ops.linear_scan import linear_scan


def linear_scan_project(
    coefficients: Callable[..., tuple[jax.Array, jax.Array]],
    readout: Callable[..., Any],
    xs: Any,
    h0: jax.Array,
    *,
    params: tuple[Any, ...] = (),
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    chunk: int = 64,
    method: str = "auto",
) -> tuple[Any, jax.Array]:
    """y = readout(h, xs) for h_t = a_t h_{t-1} + b_t with (a, b) = coefficients(xs), without h for all t at once.

    One chunk of a, b and h exists at a time, in the backward pass too, which makes them again from the state that the
    chunk started with. That is how Mamba's states, N per channel, are trained (Gu and Dao 2023, section 3.3.2).

    Args:
      coefficients: from a chunk of xs, leaves (B, C, ...), to a and b as `linear_scan` takes them, b (B, C, *state).
        It may close over arrays: they get their gradients.
      readout: from h (B, C, *state), float32 or wider, and the chunk of xs, to y, leaves (B, C, ...).
      xs: a tree of arrays (B, T, ...).
      h0: state before the first step (B, *state).
      params: what both functions are given after their other arguments.
      reset: (B, T) bool, True where a document starts.
      mask: (B, T) bool, False at padding: the step leaves the state as it is (but for a reset there, which applies).
      chunk: steps of a chunk, C; T need not be a multiple (both functions then see the last step again, and what they
        make of it is dropped).
      method: `linear_scan`'s, within a chunk.

    Returns:
      y, leaves (B, T, ...), and the last state (B, *state), float32 or wider.

    Raises:
      ValueError: no arrays in xs, wrong ranks or shapes, a chunk below 1, and what `linear_scan` raises.
    """
    leaves = jax.tree.leaves(xs)
    if not leaves:
        raise ValueError(f"xs must have at least one array, got {xs!r}")
    check_positive(chunk=chunk)
    check_inexact(h0=h0)
    check_bool(reset=reset, mask=mask)
    for leaf in leaves:
        check_shapes(xs=(leaf, "B T ..."), reset=(reset, "B T"), mask=(mask, "B T"), h0=(h0, "B ..."))
    time = leaves[0].shape[1]
    chunk = min(chunk, time)
    if time % chunk and mask is None:
        mask = jnp.ones(leaves[0].shape[:2], bool)

    # The body is made again in the backward pass; a scan's body has nothing to be merged with, hence no barrier.
    @partial(jax.checkpoint, prevent_cse=False)
    def body(h0: jax.Array, chunks: Any) -> tuple[jax.Array, Any]:
        x, cut, valid = chunks
        a, b = coefficients(x, *params)
        h = linear_scan(a, b.astype(h0.dtype), h0, reset=cut, mask=valid, method=method)
        return h[:, -1], readout(h, x, *params)

    chunks = (_split(xs, chunk, "edge"), _split(reset, chunk), _split(mask, chunk))
    first = jax.tree.map(lambda x: x[0], chunks[0])
    dtype = accumulation_dtype(h0, *jax.eval_shape(coefficients, first, *params))
    final, y = lax.scan(body, h0.astype(dtype), chunks)
    return jax.tree.map(lambda x: _join(x)[:, :time], y), final


def _split(tree, chunk, mode="constant"):
    """(B, T, ...) to (M, B, C, ...), filled up with False or, by "edge", with copies of the last step."""

    def split(x):
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % chunk)) + ((0, 0),) * (x.ndim - 2), mode=mode)
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

    return jax.tree.map(split, tree)


def _join(x):
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])
