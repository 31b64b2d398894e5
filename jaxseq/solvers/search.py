"""Newton's method where it does not converge by itself: smaller windows, the invariant set, damping.

Steps that do not lessen the residual of the window (its sum of squares) are rejected. The window, which starts where
the states are not exact yet, is then halved, down to an eighth of the sequence; after that the increments are damped
as in ELK (Gonzalez et al. 2024): δ_t = (1 - K_t) (J_t δ_{t-1} + F_t) with the gain of a Kalman filter that takes "no
increment" for a measurement of variance 1 / damping. Its predicted variance follows

    P_t = ||J_t||² P_{t-1} / (1 + damping P_{t-1}) + 1

and is taken where that settles for J_t itself, so that the gain needs no scan of its own:

    damping P² + (1 - damping - ||J||²) P - 1 = 0,    1 - K = 1 / (1 + damping P)

Then ||J|| (1 - K) < 1 at every step, and products of Jacobians no longer grow. The damping follows the residual: four
times as much after a rejected step, a quarter after an accepted one, until none is left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import over_time, steps, unless
from jaxseq.solvers.iterate import Increment, Linearise, Progress
from jaxseq.solvers.solution import choose_rows, largest_each_step, leading, threshold

PARTS = 8  # the smallest window is one of so many parts of the sequence
FIRST, MOST = 1e-2, 1e4  # damping: the least that is tried, and where the search ends


class _Search(NamedTuple):
    progress: Progress
    jac: Any
    window: jax.Array  # (B,) steps
    damping: jax.Array  # (B,)


def search(
    structure: Any,
    linearise: Linearise,
    increment: Increment,
    project: Any,
    progress: Progress,
    *,
    tolerance: float,
    budget: int,
    damping: float = 0.0,
) -> Progress:
    """Goes on from `progress` with rejected steps, for as many iterations as the budget leaves each row.

    Args:
      structure: of the Jacobian.
      linearise, increment: as in `iterate`.
      project: a state to the nearest one in the cell's invariant set.
      progress: where to start; its residual must be finite where a row is to be helped.
      tolerance: of the residual.
      budget: iterations, in all.
      damping: to start with.
    """

    time, rows = steps(progress.h), progress.iterations.shape
    smallest = max(1, time // PARTS)

    def body(s: _Search) -> _Search:
        h, iterations, force = s.progress
        at, on = _where(s, tolerance, budget)
        inside = _inside(at, s.window, time)
        delta = increment(*damped(structure, _keep(inside, force), _keep(inside, s.jac), s.damping))
        moved = project(jax.tree.map(jnp.add, h, delta))
        moved = jax.tree.map(lambda x, y: jnp.where(over_time(inside & on[:, None], x), x, y), moved, h)
        new_force, new_jac = linearise(moved)
        each, before = (jnp.where(inside, largest_each_step(x), 0) for x in (new_force, force))
        passed = jnp.max(each, axis=1) <= threshold(tolerance, moved)
        better = on & (passed | (jnp.sum(each * each, axis=1) < jnp.sum(before * before, axis=1)))
        kept = choose_rows(better, (moved, new_force, new_jac), (h, force, s.jac))
        window, damping = _adapt(s, better, better & passed, smallest, time)
        return _Search(Progress(kept[0], iterations + on, kept[1]), kept[2], window, damping)

    def going(s: _Search) -> jax.Array:
        return jnp.any(_where(s, tolerance, budget)[1])

    start = _Search(progress, linearise(progress.h)[1], jnp.full(rows, time), jnp.full(rows, damping, jnp.float32))
    return lax.while_loop(going, body, start).progress


def damped(structure: Any, force: Any, jac: Any, damping: jax.Array) -> tuple[Any, Any]:
    """(1 - K) F and (1 - K) J, with one number for each row's damping (B,)."""
    norms = structure.norms(jac)
    weight = _weight(jnp.square(norms), over_time(damping.astype(norms.dtype), norms))
    return structure.scale_state(force, weight), structure.scale(jac, weight)


def _weight(square: jax.Array, damping: jax.Array) -> jax.Array:
    """1 - K for ||J||², see the module."""
    more = square + damping - 1
    product = (more + jnp.sqrt(more * more + 4 * damping)) / 2  # damping P
    return jnp.where(damping > 0, 1 / (1 + product), 1)


def _where(s: _Search, tolerance: float, budget: int) -> tuple[jax.Array, jax.Array]:
    """The first step that is not exact yet, and whether to go on, by row."""
    each = largest_each_step(s.progress.force)
    at = leading(each <= threshold(tolerance, s.progress.h)[:, None])
    hopeful = jnp.isfinite(jnp.max(each, axis=1)) & (s.damping <= MOST) & (s.progress.iterations < budget)
    return at, hopeful & (at < each.shape[1])


def _inside(at: jax.Array, window: jax.Array, time: int) -> jax.Array:
    t = jnp.arange(time)
    return (t >= at[:, None]) & (t < (at + window)[:, None])


def _keep(inside: jax.Array, tree: Any) -> Any:
    return unless(~inside, tree)


def _adapt(s, better, passed, smallest, time):
    halved = jnp.maximum(s.window // 2, smallest)
    window = jnp.where(passed, jnp.minimum(2 * s.window, time), jnp.where(better, s.window, halved))
    less = jnp.where(s.damping > FIRST, s.damping / 4, 0)
    more = jnp.where(s.window <= smallest, jnp.maximum(4 * s.damping, FIRST), s.damping)
    return window, jnp.where(better, less, more)
