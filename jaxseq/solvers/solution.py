"""What a solve returns: the states, and the evidence that they are right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("h", "final", "iterations", "residual", "converged"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Solution:
    """States of h_t = step(h_{t-1}, u_t), with a certificate for each sequence.

    Attributes:
      h: states (B, T, *state).
      final: the state after the last step (B, *state).
      iterations: (B,) int32, Newton iterations spent on the sequence; 0 for a sequential solve.
      residual: (B,) float, max over time and channels of |step(h_{t-1}, u_t) - h_t|; inf if any entry is not finite.
      converged: (B,) bool, whether the residual is within the solver's tolerance. False for NaN and inf.
    """

    h: jax.Array
    final: jax.Array
    iterations: jax.Array
    residual: jax.Array
    converged: jax.Array


def largest(x: jax.Array) -> jax.Array:
    """max |x| of each row, inf where any entry is not finite.

    The test is explicit because a maximum may drop NaN (XLA:CPU returns -inf for an all-NaN reduction of |x|), and
    NaN > tolerance is False: without it a diverged row would look converged.
    """
    axes = tuple(range(1, x.ndim))
    size = jnp.abs(x)
    return jnp.where(jnp.all(jnp.isfinite(size), axes), jnp.max(size, axes, initial=0), jnp.inf)
