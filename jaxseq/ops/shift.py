"""The token before this one, as RWKV's layers mix it in."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.conv import causal_conv


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
    taps = jnp.array([1, 0], x.dtype)[:, None] * jnp.ones(x.shape[-1:], x.dtype)
    return causal_conv(x, taps, None, state, reset=reset, mask=mask)
