"""The loop that Newton's method and its relatives share, and the certificate of what came out of it.

All of them repeat h <- h + δ, where δ_t = A_t δ_{t-1} + F_t(h) and F is the residual; they differ in A. Solving for the
increment, not for the state, makes the loop iterative refinement: an error of the scan is corrected by the next
residual. After k iterations the first k steps are exact, whatever A is. (Gonzalez et al. 2024, "Towards scalable and
stable parallelization of nonlinear RNNs", give the family.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import steps
from jaxseq.solvers.solution import Status, choose_rows, largest, largest_each_step, leading, threshold

HOPELESS = 1e6  # a residual above this times the states' bound, or the first residual, will not come back

Linearise = Callable[[Any], tuple[Any, Any]]  # h -> (F(h), A)
Increment = Callable[[Any, Any], Any]  # F, A -> δ


class Progress(NamedTuple):
    """Iterates (B, T, D), how many iterations each row has had (B,), and their residuals F (B, T, D)."""

    h: Any
    iterations: jax.Array
    force: Any


class Certificate(NamedTuple):
    """The per-row part of a `Solution`, all (B,)."""

    iterations: jax.Array
    residual: jax.Array
    exact_prefix: jax.Array
    status: jax.Array


def iterate(linearise: Linearise, increment: Increment, h: Any, tolerance: float, budget: int) -> Progress:
    """Iterates from h until the residual of every row is within tolerance, hopeless, or the budget spent.

    A row that has converged is left alone, and one that is no longer finite is given up: neither drives nor touches
    the others.
    """

    def active(h, iterations, residual, first):
        open_ = (residual > threshold(tolerance, h)) & (iterations < budget)
        return open_ & jnp.isfinite(residual) & (residual <= HOPELESS * jnp.maximum(first, 1))

    def body(carry):
        (h, iterations, force), jac, residual, first = carry
        on = active(h, iterations, residual, first)
        delta = increment(force, jac)
        h = choose_rows(on, jax.tree.map(jnp.add, h, delta), h)
        force, jac = linearise(h)
        return Progress(h, iterations + on, force), jac, largest(force), first

    force, jac = linearise(h)
    first = largest(force)
    start = Progress(h, jnp.zeros(first.shape, jnp.int32), force)
    done = lax.while_loop(lambda c: jnp.any(active(*c[0][:2], *c[2:])), body, (start, jac, first, first))
    return done[0]


def certify(progress: Progress, tolerance: float) -> Certificate:
    """Judges every row by its residual, never by the size of its last increment."""
    h, iterations, force = progress
    each, most = largest_each_step(force), threshold(tolerance, h)
    residual = jnp.max(each, axis=1)
    failed = jnp.where(jnp.isfinite(residual) & jnp.isfinite(largest(h)), Status.STALLED, Status.DIVERGED)
    status = jnp.where(residual <= most, Status.CONVERGED, failed).astype(jnp.int32)
    return Certificate(iterations, residual, leading(each <= most[:, None]), status)


def certify_steps(h: Any, iterations: jax.Array, status: Status) -> Certificate:
    """The certificate of states that were stepped through: exact as far as they are finite."""
    finite = jnp.isfinite(largest_each_step(h))
    ok = jnp.all(finite, axis=1)
    residual = jnp.where(ok, 0, jnp.inf).astype(jax.tree.leaves(h)[0].real.dtype)
    ended = jnp.where(ok, status, Status.DIVERGED).astype(jnp.int32)
    return Certificate(iterations, residual, jnp.where(ok, steps(h), leading(finite)), ended)
