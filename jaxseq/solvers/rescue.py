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

SMALLEST = 8  # the smallest window is one of so many parts of the sequence


def rescue(
    cell: Any, tolerance: float, budget: int, system: System, progress: Progress, certificate: Certificate
) -> tuple[Any, Certificate]:
    """Searches on, from the exact steps and a fresh guess for the rest; then steps through what is still not solved.

    Rows that have converged stay as they are, bit by bit.
    """
    failed = certificate.status != Status.CONVERGED
    again = _restart(cell, system, progress, failed, certificate.exact_prefix)
    found = search(
        cell.structure,
        partial(linearise, cell, system),
        lambda force, jac: cell.structure.scan(jac, force),
        getattr(cell, "project", lambda h: h),
        again,
        tolerance=tolerance,
        budget=2 * budget,
        smallest=max(1, steps(progress.h) // SMALLEST),
    )
    second = certify(found, tolerance)
    left = failed & (second.status != Status.CONVERGED)
    h = complete(cell, system, found.h, left, second.exact_prefix)
    return h, choose_rows(left, certify_steps(h, second.iterations, Status.FELL_BACK), second)


def _restart(cell: Any, system: System, progress: Progress, rows: jax.Array, prefix: jax.Array) -> Progress:
    guess = first_guess(cell, system, "step", 0)
    exact = (jnp.arange(steps(progress.h)) < prefix[:, None]) | ~rows[:, None]
    h = jax.tree.map(lambda x, y: jnp.where(over_time(exact, x), x, y), progress.h, guess)
    return Progress(h, progress.iterations, residual(cell, system, h))
