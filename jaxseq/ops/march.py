"""h_t = step(h_{t-1}, u_t), one step after another, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import at, put, steps, unless, where


def march(step: Callable[[Any, Any], Any], u: Any, h0: Any, reset: jax.Array | None, mask: jax.Array | None) -> Any:
    """All states (B, T, ...) from u, a tree (B, T, ...), and h0, a tree (B, ...): zero before a step with `reset`, and
    as they were where `mask` is False. Twice as fast on CPU as `lax.scan`, which turns u and h to time-major order."""

    def body(t, carry):
        h, out = carry
        h = unless(at(reset, t), h)
        h = where(at(mask, t), step(h, at(u, t)), h)
        return h, put(out, h, t)

    time = steps(u)
    out = jax.tree.map(lambda x: jnp.zeros((x.shape[0], time, *x.shape[1:]), x.dtype), h0)
    return lax.fori_loop(0, time, body, (h0, out))[1]
