"""`linear_attention` with the derivative that its kernel has: from the inputs and the states before all chunks.

It has no bonus and at most one decay per head. Every method keeps and takes the same, so that a program that is
differentiated on one machine may be compiled for another.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.ops.attention_methods import METHODS, prepared, pulled, select
from jaxseq.ops.choice import dispatch
from jaxseq.ops.kernels import attention_tpu
from jaxseq.ops.placement import per_device

INTERPRETED = {"kernel:tpu": False, "interpret:tpu": True}  # the kernels by the name of the method
TILE = 8  # steps, of which a kernel's chunk has a multiple
TOKENS = ("B T G K", "B T G K", "B T H V")


class Call(NamedTuple):
    """What is known of a call besides its arrays."""

    method: str
    chunk: int
    scale: float


def make_call(method: str, chunk: int, scale: float, v: jax.Array) -> Call:
    """With whole tiles in a chunk, so that all methods keep equally many states."""
    return Call(method, TILE * -(-min(chunk, v.shape[1]) // TILE), scale)


def apply_scale(scale: Any, q: jax.Array) -> tuple[float, jax.Array]:
    """(scale, q) if it is a number that a program may be made with, else (1, scale q)."""
    return (scale, q) if isinstance(scale, int | float) else (1.0, scale * q)


def fits(method: str, dtype: Any, log_a: jax.Array | None, bonus: jax.Array | None) -> bool:
    """Whether to call `attend`: a kernel is asked for, or "auto" may take one. Raises ValueError if `method` names one
    that does not take these arrays; log_a is (B, T, H, 1) or (B, T, H, K).
    """
    if method not in ("auto", "kernel", *INTERPRETED):
        return False
    vector = log_a is not None and log_a.shape[-1] > 1
    if dtype == jnp.float32 and bonus is None and not vector:
        return True
    if method != "auto":
        got = f"{dtype}, log_a {'none' if log_a is None else log_a.shape}, bonus {bonus is not None}"
        raise ValueError(
            f"method {method!r} of linear_attention needs float32, at most one decay per head and no bonus, got {got}"
        )
    return False


def attend(
    how: Call,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_a: jax.Array | None,
    state: jax.Array,
    reset: jax.Array | None,
    mask: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """y and the last state, of arrays as in `linear_attention` but log_a (B, T, H, 1), with 1 in B or T if constant.

    It has reverse-mode derivatives only. Raises ValueError for a kernel where there is none.
    """
    return _attend(how, q, k, v, log_a, state, reset, mask)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(how, *args) -> Any:
    return _forward(how, False, *args)[:2]


def _forward(how, keep, *args):
    methods: dict[str, Any] = {name: partial(_plain, run, how, keep) for name, run in METHODS.items()}
    methods |= {name: partial(_kernel, how, keep, interpret) for name, interpret in INTERPRETED.items()}
    return _dispatch(how, methods, args[0], args[2])(*args)


def _dispatch(how, methods, q, v):
    return dispatch("linear_attention", how.method, methods, (*v.shape, q.shape[3]), differentiated=False)


def _keep(how, q, k, v, log_a, state, reset, mask):
    y, last, before = _forward(how, True, q, k, v, log_a, state, reset, mask)
    return (y, last), (q, k, v, log_a, before, reset, mask)


def _backward(how, saved, cotangents):
    methods: dict[str, Any] = {name: partial(_pull_plain, how) for name in METHODS}
    methods |= {name: partial(_pull_kernel, how, interpret) for name, interpret in INTERPRETED.items()}
    return *_dispatch(how, methods, saved[0], saved[2])(*saved, *cotangents), None, None


_attend.defvjp(_keep, _backward)


def _plain(run, how, keep, q, k, v, log_a, state, reset, mask):
    tokens = prepared(how.scale, mask, q, k, v)
    y, last, before = run(*tokens, log_a, state, None, reset, mask, chunk=how.chunk, keep=keep)
    return y, last, before.reshape(-1, *state.shape) if keep else None


def _pull_plain(how, q, k, v, log_a, before, reset, mask, g, last):
    tokens, pull = jax.vjp(partial(prepared, how.scale, mask), q, k, v)
    before = before.reshape(*before.shape[:2], q.shape[2], -1, *before.shape[3:])
    *dtokens, dlog_a, dstate = pulled(*tokens, log_a, before, reset, mask, g, last, chunk=how.chunk)
    return *pull(tuple(dtokens)), dlog_a, dstate


def _kernel(how, keep, interpret, q, k, v, log_a, state, reset, mask):
    run = partial(attention_tpu.forward, **options(how, interpret), keep=keep)
    log_a = None if log_a is None else _whole(v, mask, log_a)
    args, letters = _named(q, k, v, log_a, reset, mask, state, "B H K V")
    return per_device(run, args, letters, ("B T H V", "B H K V", "M B H K V" if keep else None))


def _pull_kernel(how, interpret, q, k, v, log_a, before, reset, mask, g, last):
    whole, pull = (None, None) if log_a is None else jax.vjp(partial(_whole, v, mask), log_a)
    args, letters = _named(q, k, v, whole, reset, mask, before, "M B H K V")
    shared = q.shape[2] == 1  # by all heads, which may lie on several devices
    group = "H B T G K" if shared else "B T G K"
    results = group, group, "B T H V", None if log_a is None else "B T H", "B H K V"
    run = partial(apart, partial(attention_tpu.backward, **options(how, interpret)), shared)
    dq, dk, dv, rows, dstate = per_device(run, (*args, g, last), (*letters, "B T H V", "B H K V"), results)
    dq, dk = (jnp.sum(x, axis=0) if shared else x for x in (dq, dk))
    return dq, dk, dv, None if pull is None else pull(rows)[0], dstate


def apart(run, shared, *args):
    """run(*args), with an axis for devices before what each has a part of the sum of."""
    dq, dk, *others = run(*args)
    return *(x[None] if shared else x for x in (dq, dk)), *others


def options(how, interpret):
    return {"scale": how.scale, "chunk": how.chunk, "interpret": interpret}


def _named(q, k, v, log_a, reset, mask, states, letters):
    """The arguments of a kernel, and the axes of each."""
    optional = ((log_a, "B T H"), (states, letters), (reset, "B T"), (mask, "B T"))
    return (q, k, v, *(x for x, _ in optional)), (*TOKENS, *(None if x is None else name for x, name in optional))


def _whole(v, mask, log_a):
    """log_a (B, T, H) of every step, zero at padding."""
    return select(mask, jnp.broadcast_to(log_a[..., 0], v.shape[:3]))
