"""Step sizes at initialisation: spread over time scales, behind a softplus."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def step_size_bias(
    key: jax.Array, shape: tuple[int, ...], low: float = 1e-3, high: float = 0.1, floor: float = 1e-4
) -> jax.Array:
    """b with softplus(b) = max(dt, floor), log dt uniform in [log low, log high]: float32 of `shape`.

    Gu and Dao 2023, "Mamba", section 3.6, log-uniform and with a floor as in the authors' code. Raises ValueError
    unless 0 < low <= high and floor > 0.
    """
    if not (0 < low <= high and floor > 0):
        raise ValueError(f"step sizes must satisfy 0 < low <= high and floor > 0, got {low}, {high} and {floor}")
    dt = jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(low), maxval=jnp.log(high)))
    return inverse_softplus(jnp.maximum(dt, floor))


def inverse_softplus(y: jax.Array) -> jax.Array:
    """x with log(1 + e^x) = y, for y > 0, without the loss of digits of log(e^y - 1) near 0."""
    return y + jnp.log(-jnp.expm1(-y))
