"""The token before this one, as RWKV's layers mix it in, and the state before."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops import algebra
from jaxseq.ops.algebra import over_time, unless
from jaxseq.ops.conv import causal_conv
from jaxseq.ops.placement import splits


def token_shift(
    x: jax.Array, state: jax.Array | None = None, *, reset: jax.Array | None = None, mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """x_{t-1} within a document, zero before its first token (Peng et al. 2023, arXiv 2305.13048, section 3.1).

    Args:
      x: (B, T, C), any float dtype.
      state: the token before the first (B, 1, C); zero if None.
      reset: (B, T) bool, True where a document starts.
      mask: (B, T) bool, False at padding, which is skipped.

    Returns:
      The shifted x (B, T, C) in x's dtype (unspecified but finite at padding), and the new state (B, 1, C).

    Raises:
      ValueError: wrong ranks or shapes, integer input.
    """
    return causal_conv(x, shift_taps(x), None, state, reset=reset, mask=mask)


def shift_taps(x: jax.Array) -> jax.Array:
    """The taps (2, C) of the convolution that a shift of x (B, T, C) is."""
    return jnp.array([1, 0], x.dtype)[:, None] * jnp.ones(x.shape[-1:], x.dtype)


def previous(h: Any, h0: Any, reset: jax.Array | None, zero: float = 0.0) -> Any:
    """`algebra.previous`, in a form of which the compiler makes one exchange with the device to the left where time is
    split over devices (of a concatenation it makes an exchange of everything with everyone).
    """
    if not splits("seq", algebra.steps(h)):
        return algebra.previous(h, h0, reset, zero=zero)
    first = jnp.arange(algebra.steps(h))[None] == 0

    def shifted(h: jax.Array, h0: jax.Array) -> jax.Array:
        moved = lax.pad(h, jnp.zeros((), h.dtype), [(0, 0, 0), (1, -1, 0), *[(0, 0, 0)] * (h.ndim - 2)])
        return jnp.where(over_time(first, h), h0[:, None].astype(h.dtype), moved)

    return unless(reset, jax.tree.map(shifted, h, h0), zero)
