"""Where an iteration starts."""

from __future__ import annotations

from typing import Any

from jax import lax

from jaxseq.solvers.system import System, before, rest, step

GUESSES = ("step", "zeros")


def first_guess(cell: Any, system: System, kind: str, sweeps: int) -> Any:
    """h_t = step(0, u_t) or zero, then so many Jacobi sweeps h_t <- step(h_{t-1}, u_t)."""
    zero = rest(system)
    h = step(cell, system, zero) if kind == "step" else zero
    return lax.fori_loop(0, sweeps, lambda _, h: step(cell, system, before(system, h)), h) if sweeps else h
