"""What a solve returns: the states, and the evidence that they are right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import over_time


class Status(IntEnum):
    """How the solve of one sequence ended."""

    CONVERGED = 0  # the residual is within tolerance
    FELL_BACK = 1  # the rest was stepped through sequentially: exact
    STALLED = 2  # the budget ended first; the states are finite but do not solve the recurrence
    DIVERGED = 3  # some state is not finite


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("h", "final", "iterations", "residual", "exact_prefix", "growth", "status"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Solution:
    """States of h_t = step(h_{t-1}, u_t), with a certificate for each sequence.

    Attributes:
      h: states (B, T, D), or a tuple of them as the cell's step takes.
      final: the state after the last step (B, D).
      iterations: (B,) int32, iterations spent on the sequence (in windows: in the worst one); 0 for a sequential solve.
      residual: (B,) float, max over time and channels of |step(h_{t-1}, u_t) - h_t|; inf if any entry is not finite.
      exact_prefix: (B,) int32, leading steps whose residual is within the tolerance.
      growth: (B,) float, the mean over time of log ||J_t|| in the channel (or head) where it is largest: the Lyapunov
        exponent of a diagonal cell, a bound from above for others. What is above zero is not predictable. NaN where no
        Jacobian is written down: states that mix, stepped through or beyond their structure's budget.
      status: (B,) int32, a `Status`.
      converged: (B,) bool, whether h solves the recurrence: status CONVERGED or FELL_BACK. Never for NaN and inf.
    """

    h: Any
    final: Any
    iterations: jax.Array
    residual: jax.Array
    exact_prefix: jax.Array
    growth: jax.Array
    status: jax.Array

    @property
    def converged(self) -> jax.Array:
        """(B,) bool, see the class."""
        return self.status <= Status.FELL_BACK


def largest(tree: Any) -> jax.Array:
    """max |x| of each row over all leaves, inf where any entry is not finite.

    The test is explicit because a maximum may drop NaN (XLA:CPU returns -inf for an all-NaN reduction of |x|), and
    NaN > tolerance is False: without it a diverged row would look converged.
    """
    return jnp.max(jnp.stack([_largest(x, 1) for x in jax.tree.leaves(tree)]), axis=0)


def largest_each_step(tree: Any) -> jax.Array:
    """The same of each row and step (B, T)."""
    return jnp.max(jnp.stack([_largest(x, 2) for x in jax.tree.leaves(tree)]), axis=0)


def leading(ok: jax.Array) -> jax.Array:
    """How many leading entries of each row of ok (B, T) are True, (B,) int32."""
    time = ok.shape[1]
    return jnp.min(jnp.where(ok, time, jnp.arange(time, dtype=jnp.int32)), axis=1)


def threshold(tolerance: float, h: Any) -> jax.Array:
    """The residual that counts as solved, by row: tolerance · max(1, max |h|), and none where h is not finite."""
    size = largest(h)
    return jnp.where(jnp.isfinite(size), tolerance * jnp.maximum(1, size), -1)


def growth(norms: jax.Array) -> jax.Array:
    """`Solution.growth` from the norms of the Jacobians (B, T, channels); a document's start counts as 1e-30."""
    rates = jnp.mean(jnp.log(jnp.maximum(norms, 1e-30)), axis=1)
    return jnp.max(rates.reshape(rates.shape[0], -1), axis=1)


def choose_rows(flag: jax.Array, tree: Any, other: Any) -> Any:
    """Rows of `tree` where the flag (B,) is True, of `other` elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(over_time(flag, x), x, y), tree, other)


def _largest(x: jax.Array, leading_axes: int) -> jax.Array:
    axes = tuple(range(leading_axes, x.ndim))
    size = jnp.abs(x)
    return jnp.where(jnp.all(jnp.isfinite(size), axes), jnp.max(size, axes, initial=0), jnp.inf)
