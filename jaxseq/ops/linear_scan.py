"""h_t = a_t h_{t-1} + b_t, elementwise: the recurrence under every linear mixer and every Newton step.

The backward pass is the same recurrence run the other way (no conjugate for complex numbers: JAX's VJP is the
transpose):

    λ_t = g_t + a_{t+1} λ_{t+1},    db_t = λ_t,    da_t = λ_t h_{t-1},    dh0 = a_1 λ_1

so training keeps a and h and nothing else.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.checks import accumulation_dtype, check_bool, check_choice, check_inexact, check_shapes

METHODS = ("auto", "sequential", "associative")


def linear_scan(
    a: jax.Array,
    b: jax.Array,
    h0: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    reverse: bool = False,
    method: str = "auto",
) -> jax.Array:
    """All states of the linear recurrence h_t = a_t h_{t-1} + b_t.

    Args:
      a: decay, broadcastable to b (size 1 in any axis), float32 or wider, real or complex, of any magnitude.
        bfloat16 and float16 are refused: 0.999 rounds to 1 there.
      b: input (B, T, ...), any float or complex dtype.
      h0: state before the first step (B, ...); zero if None.
      reset: (B, T) bool, True where the state before the step is zero (with `reverse`: the state after it).
      reverse: run from the last step to the first; h0 is then the state after the last step.
      method: "sequential" (one in-place pass), "associative" (log-depth, `lax.associative_scan`), or "auto":
        sequential on CPU, associative elsewhere.

    Returns:
      h (B, T, ...) in b's dtype (complex if a is); sums are carried in float32 or wider. The final state is h[:, -1].

    Raises:
      ValueError: wrong ranks or shapes, integer input, a half-precision decay, an unknown method.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check(a, b, h0, reset, method)
    dtype = accumulation_dtype(a, b, h0)
    start = jnp.zeros(b.shape[:1] + b.shape[2:], dtype) if h0 is None else h0.astype(dtype)
    h: Any = _scan(a.astype(dtype), b.astype(dtype), start, reset, reverse, method)
    return h.astype(jnp.result_type(b, jnp.complex64) if jnp.iscomplexobj(h) else b.dtype)


def _check(a: jax.Array, b: jax.Array, h0: jax.Array | None, reset: jax.Array | None, method: str) -> None:
    check_choice("method", method, METHODS)
    check_inexact(a=a, b=b, h0=h0)
    check_bool(reset=reset)
    check_shapes(b=(b, "B T ..."), reset=(reset, "B T"))
    if jnp.finfo(a.dtype).bits < 32:
        raise ValueError(f"a must be float32 or wider (a decay of 0.999 rounds to 1 in {a.dtype}), got {a.dtype}")
    if b.shape[1] < 1:
        raise ValueError(f"b must have at least one time step, got shape {b.shape}")
    if a.ndim != b.ndim or any(m not in (1, n) for m, n in zip(a.shape, b.shape, strict=True)):
        raise ValueError(f"a must broadcast to b of shape {b.shape} axis by axis, got shape {a.shape}")
    if h0 is not None and h0.shape != b.shape[:1] + b.shape[2:]:
        raise ValueError(f"h0 must have shape {b.shape[:1] + b.shape[2:]} (b without time), got {h0.shape}")


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _scan(a: jax.Array, b: jax.Array, h0: jax.Array, reset: jax.Array | None, reverse: bool, method: str) -> jax.Array:
    return _dispatch(method, partial(_sequential, reverse=reverse), partial(_associative, reverse=reverse))(
        a, b, h0, reset
    )


def _scan_forward(a, b, h0, reset, reverse, method):
    h = _scan(a, b, h0, reset, reverse, method)
    return h, (a, h, h0, reset)


def _scan_backward(reverse, method, saved, g):
    a, h, h0, reset = saved
    adjoint = _dispatch(
        method, partial(_sequential_adjoint, reverse=reverse), partial(_associative_adjoint, reverse=reverse)
    )
    db, dh0 = adjoint(a, g, reset)
    da = db * previous(h, h0, reset, reverse)
    broadcast = tuple(i for i, (m, n) in enumerate(zip(a.shape, h.shape, strict=True)) if m != n)
    return jnp.sum(da, broadcast, keepdims=True), db, dh0, None


_scan.defvjp(_scan_forward, _scan_backward)


def previous(h: jax.Array, h0: jax.Array, reset: jax.Array | None, reverse: bool = False) -> jax.Array:
    """h_{t-1} for every t, (B, T, ...): h0 at the first step, zero where `reset` (B, T) is True."""
    first = h0[:, None].astype(h.dtype)
    before = jnp.concatenate([h[:, 1:], first] if reverse else [first, h[:, :-1]], axis=1)
    return before if reset is None else jnp.where(over_time(reset, h), 0, before)


def over_time(flag: jax.Array, h: jax.Array) -> jax.Array:
    """A flag (B, T) or (B,) with trailing axes of size 1, so that it broadcasts against h."""
    return flag.reshape(flag.shape + (1,) * (h.ndim - flag.ndim))


def _dispatch(method, sequential, associative):
    if method != "auto":
        return sequential if method == "sequential" else associative
    return lambda *args: lax.platform_dependent(*args, cpu=sequential, default=associative)


def _at(x: jax.Array, t: jax.Array) -> jax.Array:
    return x[:, 0] if x.shape[1] == 1 else lax.dynamic_index_in_dim(x, t, 1, keepdims=False)


def _sequential(a, b, h0, reset, *, reverse):
    """One pass in place: on 2 CPU cores 2 to 5 times as fast as `lax.scan` over transposed arrays, and 3 to 8 times as
    fast as `lax.associative_scan`, at the shapes of `python launch/benchmark.py scan`.
    """
    time = b.shape[1]

    def body(i, carry):
        h, out = carry
        t = time - 1 - i if reverse else i
        h = h if reset is None else jnp.where(over_time(_at(reset, t), h), 0, h)
        h = _at(a, t) * h + _at(b, t)
        return h, lax.dynamic_update_index_in_dim(out, h, t, 1)

    return lax.fori_loop(0, time, body, (h0, jnp.zeros_like(b)))[1]


def _sequential_adjoint(a, g, reset, *, reverse):
    """λ and dh0, carrying μ_t = a_t λ_t so that a is read at its own step."""
    time = g.shape[1]

    def body(i, carry):
        mu, out = carry
        t = i if reverse else time - 1 - i
        lam = _at(g, t) + mu
        mu = _at(a, t) * lam
        mu = mu if reset is None else jnp.where(over_time(_at(reset, t), mu), 0, mu)
        return mu, lax.dynamic_update_index_in_dim(out, lam, t, 1)

    mu, lam = lax.fori_loop(0, time, body, (jnp.zeros_like(g[:, 0]), jnp.zeros_like(g)))
    return lam, mu


def _associative(a, b, h0, reset, *, reverse):
    a = jnp.broadcast_to(a if reset is None else jnp.where(over_time(reset, b), 0, a), b.shape)
    first = -1 if reverse else 0
    b = b.at[:, first].add(a[:, first] * h0)
    return lax.associative_scan(_compose, (a, b), reverse=reverse, axis=1)[1]


def _associative_adjoint(a, g, reset, *, reverse):
    a = jnp.broadcast_to(a if reset is None else jnp.where(over_time(reset, g), 0, a), g.shape)
    lam = _associative(_later(a, reverse), g, jnp.zeros_like(g[:, 0]), None, reverse=not reverse)
    first = -1 if reverse else 0
    return lam, a[:, first] * lam[:, first]


def _later(a: jax.Array, reverse: bool) -> jax.Array:
    zero = jnp.zeros_like(a[:, :1])
    return jnp.concatenate([zero, a[:, :-1]] if reverse else [a[:, 1:], zero], axis=1)


def _compose(first, second):
    (a1, b1), (a2, b2) = first, second
    return a2 * a1, a2 * b1 + b2
