"""A solve in windows: so many steps at a time, each window from the state that the last one left.

Windows are the knob between Newton (one window) and stepping (windows of one): the smaller, the fewer iterations each
needs and the more of them come one after the other. Memory for the iterates is that of one window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.solvers.iterate import Certificate
from jaxseq.solvers.system import System, length

Run = Callable[[System, Any], tuple[Any, Certificate]]


def in_windows(run: Run, window: int | None, system: System, guess: Any) -> tuple[Any, Certificate]:
    """run(system, guess), window by window; steps beyond the last one are padding."""
    time = length(system)
    if window is None or window >= time:
        return run(system, guess)
    more = -time % window
    mask = system.mask
    if more:
        mask = jnp.ones(jax.tree.leaves(guess)[0].shape[:2], bool) if mask is None else mask
    u, reset, mask, guess = _split((system.u, system.reset, mask, guess), window, more)

    def one(h0, parts):
        u, reset, mask, guess = parts
        h, certificate = run(system._replace(u=u, h0=h0, reset=reset, mask=mask), guess)
        return jax.tree.map(lambda x: x[:, -1], h), (h, certificate)

    _, (h, certificates) = lax.scan(one, system.h0, (u, reset, mask, guess))
    h = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])[:, :time], h)
    return h, _together(certificates, window, time)


def _split(tree: Any, window: int, more: int) -> Any:
    """(B, T, ...) to (windows, B, window, ...)."""

    def one(x):
        x = jnp.pad(x, ((0, 0), (0, more)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, window, *x.shape[2:]), 1, 0)

    return jax.tree.map(one, tree)


def _together(each: Certificate, window: int, time: int) -> Certificate:
    """The worst of all windows (M, B); exact up to the first that is not."""
    before = jnp.arange(each.exact_prefix.shape[0])[:, None] * window
    whole = each.exact_prefix >= window
    prefix = jnp.min(jnp.where(whole, time, before + each.exact_prefix), axis=0)
    iterations, residual, status = (jnp.max(x, axis=0) for x in (each.iterations, each.residual, each.status))
    return Certificate(iterations, residual, jnp.minimum(prefix, time).astype(jnp.int32), status)
