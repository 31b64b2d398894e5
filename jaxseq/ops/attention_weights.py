"""What a query gives to each of its keys: the softmax, or two stages that need no exponential."""

from __future__ import annotations

from math import log

import jax
import jax.numpy as jnp
from jax import lax

EVEN = 1e-3  # ε of `softplus_weights`


def softmax_weights(scores: jax.Array, seen: jax.Array, width: int) -> jax.Array:
    """softmax_j(s_ij / √d) over the keys j that query i sees (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).

    scores (..., T, S) floating point, seen a bool array that broadcasts to them, width the d of a head. Where nothing
    is seen the weights are finite and mean nothing.
    """
    return jax.nn.softmax(jnp.where(seen, scores * width**-0.5, jnp.finfo(scores.dtype).min), axis=-1)


def softplus_weights(scores: jax.Array, seen: jax.Array, width: int, power: float) -> jax.Array:
    """The weights of LSSAR (Gao & Spratling 2025, arXiv 2501.13428), in its two stages:

        A_ij = softplus(log d · log N_i · s_ij),  A_i = A_i / Σ_j A_ij
        A_ij = ReLU(A_ij N_i - O_i)^p,            A_i = A_i / (Σ_j A_ij + ε^p)

    over the N_i keys j that query i sees; the others have 0. O_i is 0 where N_i <= 3 and 1 elsewhere. Power 0 is the
    first stage alone, LSSA. scores and seen are as in `softmax_weights`; the s_ij are of unit vectors.

    The paper has no window, and N_i is i. It has no ε either, and 0 / 0 where all weights are equal: here such a row is
    0, one whose largest A_ij N_i - O_i is about ε sums to less than 1, and any other moves by (ε / that)^p or less.
    Numerator and denominator are first divided by the row's largest to the power p, because 8191 to the 15th overflows
    float32: it cancels, from the derivatives too.
    """
    count = jnp.sum(seen, axis=-1, keepdims=True).astype(scores.dtype)
    scale = log(width) * jnp.log(jnp.maximum(count, 1))
    weight = jax.nn.softplus(jnp.where(seen, scale * scores, -jnp.inf))
    weight = weight / jnp.where(count > 0, jnp.sum(weight, axis=-1, keepdims=True), 1)
    if not power:
        return weight
    above = jax.nn.relu(weight * count - (count > 3))
    top = lax.stop_gradient(jnp.maximum(jnp.max(above, axis=-1, keepdims=True), EVEN))
    sharp = (above / top) ** power
    return sharp / (jnp.sum(sharp, axis=-1, keepdims=True) + (EVEN / top) ** power)
