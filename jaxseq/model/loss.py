"""Cross entropy with a z-loss, summed so that batches and microbatches add up exactly."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Loss(NamedTuple):
    """Sums over target tokens, float32 scalars: divide by `weight` for means."""

    nats: jax.Array
    z: jax.Array
    weight: jax.Array


def cross_entropy(logits: jax.Array, targets: jax.Array, weight: jax.Array) -> Loss:
    """Σ weight · (logsumexp(logits) - logits[target]) and Σ weight · logsumexp², in float32 or wider.

    logits (B, T, vocab) float, targets (B, T) int, weight (B, T) float. The z-loss (PaLM, arXiv 2204.02311, section 5)
    keeps the logits' normaliser near 1.
    """
    nats, normaliser = token_nats(logits, targets)
    return Loss(jnp.sum(nats * weight), jnp.sum(jnp.square(normaliser) * weight), jnp.sum(weight))


def token_nats(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """-log p(target) and log Σ exp(logits) of every position, (B, T) float32 each (float64 if given it)."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return normaliser - chosen, normaliser
