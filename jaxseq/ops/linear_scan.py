"""h_t = a_t h_{t-1} + b_t, elementwise: the recurrence under every linear mixer and every Newton step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.affine import affine_scan
from jaxseq.ops.affine_kernels import fused
from jaxseq.ops.affine_methods import Algorithm, algorithms
from jaxseq.ops.algebra import DIAGONAL
from jaxseq.ops.checks import accumulation_dtype, check_bool, check_decay, check_inexact, check_positive, check_shapes


def linear_scan(
    a: jax.Array,
    b: jax.Array,
    h0: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
    method: str = "auto",
    chunk: int = 128,
) -> jax.Array:
    """All states of the linear recurrence h_t = a_t h_{t-1} + b_t.

    Derivatives of every order, forwards and backwards: see `affine.affine_scan`.

    Args:
      a: decay, broadcastable to b (size 1 in any axis), float32 or wider, real or complex, of any magnitude.
        bfloat16 and float16 are refused: 0.999 rounds to 1 there.
      b: input (B, T, ...), any float or complex dtype.
      h0: state before the first step (B, ...); zero if None.
      reset: (B, T) bool, True where the state before the step is zero (with `reverse`: the state after it).
      mask: (B, T) bool, False at padding: the step leaves the state as it is (but for a reset there, which applies).
      reverse: run from the last step to the first; h0 is then the state after the last step.
      method: "sequential" (one in-place pass), "associative" (log-depth, `lax.associative_scan`), "chunked" (all
        chunks side by side, twice), "kernel" (one fused pass on TPU or GPU; float32 or complex64), or "auto", see
        `explain`.
      chunk: steps of a chunk, for "chunked".

    Returns:
      h (B, T, ...) in b's dtype (complex if a is); sums are carried in float32 or wider. The final state is h[:, -1].

    Raises:
      ValueError: wrong ranks or shapes, integer input, a half-precision decay, an unknown method, a chunk below 1.
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check(a, b, h0, reset, mask, chunk)
    dtype = accumulation_dtype(a, b, h0)
    start = jnp.zeros(b.shape[:1] + b.shape[2:], dtype) if h0 is None else h0.astype(dtype)
    args = (
        "linear_scan",
        method,
        implementations(method, chunk, dtype),
        DIAGONAL,
        a.astype(dtype),
        b.astype(dtype),
        start,
    )
    h = affine_scan(*args, reset=reset, mask=mask, reverse=reverse)
    return h.astype(jnp.result_type(b, jnp.complex64) if jnp.iscomplexobj(h) else b.dtype)


def implementations(method: str, chunk: int, dtype: Any) -> dict[str, Algorithm]:
    """Every implementation for states of that dtype, by the name of its method."""
    return {**algorithms(chunk), **fused("linear_scan", method, dtype)}


def _check(a, b, h0, reset, mask, chunk):
    check_inexact(a=a, b=b, h0=h0)
    check_bool(reset=reset, mask=mask)
    check_shapes(b=(b, "B T ..."), reset=(reset, "B T"), mask=(mask, "B T"))
    check_decay(a=a)
    check_positive(chunk=chunk)
    if b.shape[1] < 1:
        raise ValueError(f"b must have at least one time step, got shape {b.shape}")
    if a.ndim != b.ndim or any(m not in (1, n) for m, n in zip(a.shape, b.shape, strict=True)):
        raise ValueError(f"a must broadcast to b of shape {b.shape} axis by axis, got shape {a.shape}")
    if h0 is not None and h0.shape != b.shape[:1] + b.shape[2:]:
        raise ValueError(f"h0 must have shape {b.shape[:1] + b.shape[2:]} (b without time), got {h0.shape}")
