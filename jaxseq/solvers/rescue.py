"""What happens to the sequences that plain iterations did not solve."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import over_time, steps
from jaxseq.solvers.guess import first_guess
from jaxseq.solvers.iterate import Certificate, Progress, certify, certify_steps
from jaxseq.solvers.search import search
from jaxseq.solvers.sequential import complete
from jaxseq.solvers.solution import Status, choose_rows
from jaxseq.solvers.system import System, linearise, residual

CONTRACTING = -0.1  # growth per step, below which an error of the tolerance stays within ten times the tolerance


def rescue(
    cell: Any, tolerance: float, budget: int, system: System, progress: Progress, certificate: Certificate
) -> tuple[Any, Certificate]:
    """Searches on, from the exact steps and a fresh guess for the rest; then steps through what is still not solved.

    Rows that have converged stay as they are, bit by bit. Where the errors of the solved steps do not die out, a row
    is stepped through from its first step; and so it is without a `budget` of iterations to search with.
    """
    failed = certificate.status != Status.CONVERGED
    if not budget:
        h = complete(cell, system, progress.h, failed, 0 * certificate.exact_prefix)
        return h, choose_rows(failed, certify_steps(h, certificate.iterations, Status.FELL_BACK), certificate)
    again = _restart(cell, system, progress, failed, certificate.exact_prefix)
    found = search(
        cell.structure,
        partial(linearise, cell, system),
        lambda force, jac: cell.structure.scan(jac, force),
        getattr(cell, "project", lambda h: h),
        again,
        tolerance=tolerance,
        budget=budget,
    )
    second = certify(found, tolerance)
    left = failed & (second.status != Status.CONVERGED)
    h = complete(cell, system, found.h, left, _start(cell, system, found, second.exact_prefix))
    return h, choose_rows(left, certify_steps(h, second.iterations, Status.FELL_BACK), second)


def _start(cell: Any, system: System, progress: Progress, prefix: jax.Array) -> jax.Array:
    """The first step that is not exact, or the very first one where the exact ones hardly contract."""
    norms = cell.structure.norms(linearise(cell, system, progress.h)[1])
    inside = over_time(jnp.arange(norms.shape[1]) < prefix[:, None], norms)
    rates = jnp.sum(jnp.where(inside, jnp.log(jnp.maximum(norms, 1e-30)), 0), axis=1)
    slowest = jnp.max(rates.reshape(rates.shape[0], -1), axis=1) / jnp.maximum(prefix, 1)
    return jnp.where(slowest < CONTRACTING, prefix, 0)


def _restart(cell: Any, system: System, progress: Progress, rows: jax.Array, prefix: jax.Array) -> Progress:
    guess = first_guess(cell, system, "step", 0)
    exact = (jnp.arange(steps(progress.h)) < prefix[:, None]) | ~rows[:, None]
    h = jax.tree.map(lambda x, y: jnp.where(over_time(exact, x), x, y), progress.h, guess)
    return Progress(h, progress.iterations, residual(cell, system, h))
