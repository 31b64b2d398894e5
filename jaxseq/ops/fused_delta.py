"""`delta_rule` with the derivative that its kernel has: from the inputs and the states before all chunks.

It has at most one decay per head. Every method keeps and takes the same, as in `fused_attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.ops.attention_methods import select
from jaxseq.ops.choice import dispatch
from jaxseq.ops.chunks import grouped, heads
from jaxseq.ops.fused_attention import INTERPRETED, TOKENS, Call, apart, options
from jaxseq.ops.kernels import delta_tpu
from jaxseq.ops.matrix_state import methods, pulled
from jaxseq.ops.placement import per_device

Within = Callable[..., Any]


class Parts(NamedTuple):
    """What a chunk does and what a step does, see `matrix_state.py`."""

    within: Within
    step: Within


def fits(method: str, dtype: Any, log_a: jax.Array | None) -> bool:
    """Whether to call `fused`: a kernel is asked for, or "auto" may take one. Raises ValueError if `method` names one
    that does not take these arrays.
    """
    if method not in ("auto", "kernel", *INTERPRETED):
        return False
    if dtype == jnp.float32 and (log_a is None or log_a.ndim == 3):
        return True
    if method != "auto":
        got = f"{dtype}, log_a {'none' if log_a is None else log_a.shape}"
        raise ValueError(f"method {method!r} of delta_rule needs float32 and at most one decay per head, got {got}")
    return False


def fused(
    how: Call,
    parts: Parts,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    beta: jax.Array,
    log_a: jax.Array | None,
    state: jax.Array,
    reset: jax.Array | None,
    mask: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """y and the last state, of arrays as in `delta_rule`, float32.

    It has reverse-mode derivatives only. Raises ValueError for a kernel where there is none.
    """
    return _fused(how, parts, q, k, v, beta, log_a, state, reset, mask)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _fused(how, parts, *args) -> Any:
    return _forward(how, parts, False, *args)[:2]


def _forward(how, parts, keep, *args):
    runs: dict[str, Any] = {name: partial(_plain, run, how, keep) for name, run in methods(*parts).items()}
    runs |= {name: partial(_kernel, how, keep, interpret) for name, interpret in INTERPRETED.items()}
    return _dispatch(how, runs, args[0], args[2])(*args)


def _dispatch(how, runs, q, v):
    return dispatch("delta_rule", how.method, runs, (*v.shape, q.shape[3]), differentiated=False)


def _keep(how, parts, q, k, v, beta, log_a, state, reset, mask):
    y, last, before = _forward(how, parts, True, q, k, v, beta, log_a, state, reset, mask)
    return (y, last), (q, k, v, beta, log_a, before, reset, mask)


def _backward(how, parts, saved, cotangents):
    runs: dict[str, Any] = {name: partial(_pull_plain, how, parts.within) for name in methods(*parts)}
    runs |= {name: partial(_pull_kernel, how, interpret) for name, interpret in INTERPRETED.items()}
    return *_dispatch(how, runs, saved[0], saved[2])(*saved, *cotangents), None, None


_fused.defvjp(_keep, _backward)


def _prepared(scale, mask, q, k, v, beta, log_a):
    """The tokens as the methods take them."""
    x = {"q": scale * q, "k": k, "v": v, "beta": beta[..., None]}
    x |= {} if log_a is None else {"log_a": log_a[..., None]}
    return {name: select(mask, y) for name, y in x.items()}


def _plain(run, how, keep, q, k, v, beta, log_a, state, reset, mask):
    x = _prepared(how.scale, mask, q, k, v, beta, log_a)
    y, last, before = run(x, grouped(state, q.shape[2]), reset, chunk=how.chunk, keep=keep)
    return y, heads(last), before.reshape(-1, *state.shape) if keep else None


def _pull_plain(how, within, q, k, v, beta, log_a, before, reset, mask, g, last):
    x, pull = jax.vjp(partial(_prepared, how.scale, mask), q, k, v, beta, log_a)
    groups = q.shape[2]
    before = before.reshape(*before.shape[:2], groups, -1, *before.shape[3:])
    dx, dstate = pulled(within, x, before, reset, g, grouped(last, groups), chunk=how.chunk)
    return *pull(dx), heads(dstate)


def _kernel(how, keep, interpret, q, k, v, beta, log_a, state, reset, mask):
    run = partial(delta_tpu.forward, **options(how, interpret), keep=keep)
    args, letters = _named(q, k, v, beta, log_a, reset, mask, state, "B H K V")
    return per_device(run, args, letters, ("B T H V", "B H K V", "M B H K V" if keep else None))


def _pull_kernel(how, interpret, q, k, v, beta, log_a, before, reset, mask, g, last):
    args, letters = _named(q, k, v, beta, log_a, reset, mask, before, "M B H K V")
    shared = q.shape[2] == 1  # by all heads, which may lie on several devices
    group = "H B T G K" if shared else "B T G K"
    results = group, group, "B T H V", "B T H", None if log_a is None else "B T H", "B H K V"
    run = partial(apart, partial(delta_tpu.backward, **options(how, interpret)), shared)
    dq, dk, dv, *rows, dstate = per_device(run, (*args, g, last), (*letters, "B T H V", "B H K V"), results)
    dq, dk = (jnp.sum(x, axis=0) if shared else x for x in (dq, dk))
    dbeta, dlog_a = (None if x is None else select(mask, x) for x in rows)
    return dq, dk, dv, dbeta, dlog_a, dstate


def _named(q, k, v, beta, log_a, reset, mask, states, letters):
    """The arguments of a kernel, and the axes of each."""
    beta, log_a = (None if x is None else select(mask, x) for x in (beta, log_a))
    optional = ((beta, "B T H"), (log_a, "B T H"), (states, letters), (reset, "B T"), (mask, "B T"))
    return (q, k, v, *(x for x, _ in optional)), (*TOKENS, *(None if x is None else name for x, name in optional))
