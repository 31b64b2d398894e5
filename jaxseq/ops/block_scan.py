"""h_t = A_t h_{t-1} + b_t with a matrix per block of channels: states that mix."""

from __future__ import annotations

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.affine import affine_scan
from jaxseq.ops.affine_kernels import fused
from jaxseq.ops.affine_methods import Algorithm, algorithms
from jaxseq.ops.algebra import Algebra
from jaxseq.ops.checks import accumulation_dtype, check_bool, check_decay, check_inexact, check_positive, check_shapes

UNROLLED = 8  # up to this K sums over K are written out: XLA:CPU is slow at tiny matrices


def block_scan(
    A: jax.Array,
    b: jax.Array,
    h0: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
    method: str = "auto",
    chunk: int = 128,
) -> jax.Array:
    """All states of h_t = A_t h_{t-1} + b_t for every block of K channels.

    With λ_t = g_t + A_{t+1}ᵀ λ_{t+1} the derivatives are db_t = λ_t and dA_t = λ_t h_{t-1}ᵀ; forward mode and higher
    orders work too. Source: the recurrence of block-diagonal linear RNNs (Fan, Chi and Rudnicky 2023, "Advancing
    Regular Language Reasoning in Linear Recurrent Neural Networks"), and of Newton's step for states that mix.

    Args:
      A: matrices (B, T, G, K, K), with size 1 in B or T where they are the same; float32 or wider, real or complex.
        K is small (2 to 16), or G is 1 and the matrix dense.
      b: input (B, T, G, K), any float or complex dtype.
      h0: state before the first step (B, G, K); zero if None.
      reset: (B, T) bool, True where the state before the step is zero (with `reverse`: the state after it).
      mask: (B, T) bool, False at padding: the step leaves the state as it is (but for a reset there, which applies).
      reverse: run from the last step to the first; h0 is then the state after the last step.
      method: "sequential" (K² work per step and block), "associative" and "chunked" (K³), "kernel" (one fused pass on
        TPU or GPU; float32, K up to 4), or "auto", see `explain`.
      chunk: steps of a chunk, for "chunked".

    Returns:
      h (B, T, G, K) in b's dtype (complex if A is). Sums are carried in float32 or wider, products of matrices are
      never in a lower precision than that.

    Raises:
      ValueError: wrong ranks or shapes, integer input, half-precision matrices, an unknown method, a chunk below 1.
    """
    A, b = jnp.asarray(A), jnp.asarray(b)
    _check(A, b, h0, reset, mask, chunk)
    dtype = accumulation_dtype(A, b, h0)
    start = jnp.zeros(b.shape[:1] + b.shape[2:], dtype) if h0 is None else h0.astype(dtype)
    args = (
        "block_scan",
        method,
        implementations(method, chunk, dtype, b.shape[-1]),
        BLOCK,
        A.astype(dtype),
        b.astype(dtype),
        start,
    )
    h = affine_scan(*args, reset=reset, mask=mask, reverse=reverse)
    return h.astype(jnp.result_type(b, jnp.complex64) if jnp.iscomplexobj(h) else b.dtype)


def implementations(method: str, chunk: int, dtype: Any, size: int) -> dict[str, Algorithm]:
    """Every implementation for blocks of that size and dtype, by the name of its method."""
    return {**algorithms(chunk), **fused("block_scan", method, dtype, size)}


def _check(A, b, h0, reset, mask, chunk):
    check_inexact(A=A, b=b, h0=h0)
    check_bool(reset=reset, mask=mask)
    check_shapes(b=(b, "B T G K"), A=(A, "B' T' G K K"), h0=(h0, "B G K"), reset=(reset, "B T"), mask=(mask, "B T"))
    check_decay(A=A)
    check_positive(chunk=chunk)
    if b.shape[1] < 1:
        raise ValueError(f"b must have at least one time step, got shape {b.shape}")
    if any(m not in (1, n) for m, n in zip(A.shape[:2], b.shape[:2], strict=True)):
        raise ValueError(f"A must have the B and T of b, {b.shape[:2]}, or size 1 there, got shape {A.shape}")


def _apply(A, h):
    if h.shape[-1] > UNROLLED:
        return jnp.einsum("...ij,...j->...i", A, h, precision=lax.Precision.HIGHEST)
    return reduce(jnp.add, (A[..., :, j] * h[..., j : j + 1] for j in range(h.shape[-1])))


def _product(A, h):
    # Its transpose, λ hᵀ, is elementwise: as a matrix product it is several times as slow on CPU.
    return _apply(A, h) if h.shape[-1] <= UNROLLED else jnp.sum(A * h[..., None, :], axis=-1)


def _compose(A2, A1):
    if A1.shape[-1] > UNROLLED:
        return jnp.matmul(A2, A1, precision=lax.Precision.HIGHEST)
    return reduce(jnp.add, (A2[..., :, j : j + 1] * A1[..., j : j + 1, :] for j in range(A1.shape[-1])))


def _identity(A):
    return jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)


BLOCK = Algebra(_apply, _product, _compose, _identity, lambda A: jnp.swapaxes(A, -1, -2))
