"""h_t = A_t h_{t-1} + b_t for channels of several states, every state and every entry of A an array of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.affine import affine_scan
from jaxseq.ops.affine_kernels import fused
from jaxseq.ops.affine_methods import Algorithm, algorithms
from jaxseq.ops.algebra import ENTRIES
from jaxseq.ops.checks import accumulation_dtype, check_bool, check_decay, check_positive, check_real, check_shapes

Arrays = tuple[jax.Array, ...]


def coupled_scan(
    A: tuple[Arrays, ...],
    b: Arrays,
    h0: Arrays | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
    method: str = "auto",
    chunk: int = 128,
) -> Arrays:
    """All states of h_i[t] = Σ_j A_ij[t] h_j[t-1] + b_i[t], elementwise over channels, for K states a channel.

    The recurrence of `block_scan` with one array per entry, which is how kernels and XLA:CPU read matrices this small
    without copying them. It is Newton's step for a cell with several states per channel. Derivatives of every order.

    Args:
      A: K rows of K arrays (B, T, D), with size 1 in any axis where they are the same; float32 or wider, real.
      b: K inputs (B, T, D), any float dtype.
      h0: K states before the first step (B, D); zero if None.
      reset, mask, reverse, chunk: as in `block_scan`.
      method: "sequential", "associative", "chunked", "kernel" (one fused pass on TPU or GPU; float32, K up to 4), or
        "auto", see `explain`.

    Returns:
      The K states (B, T, D) in the dtype of b; sums are carried in float32 or wider.

    Raises:
      ValueError: rows that do not fit, wrong ranks or shapes, integer or complex input, half-precision entries, an
        unknown method, a chunk below 1.
    """
    A, b = tuple(tuple(jnp.asarray(a) for a in row) for row in A), tuple(jnp.asarray(x) for x in b)
    _check(A, b, h0, reset, mask, chunk)
    dtype, wanted = accumulation_dtype(*jax.tree.leaves((A, b, h0))), jnp.result_type(*b)
    start = tuple(jnp.zeros(x.shape[:1] + x.shape[2:], dtype) for x in b) if h0 is None else tuple(h0)
    wide = jax.tree.map(lambda x: x.astype(dtype), (A, b, start))
    methods = implementations(method, chunk, dtype, len(b))
    h = affine_scan("coupled_scan", method, methods, ENTRIES, *wide, reset=reset, mask=mask, reverse=reverse)
    return tuple(x.astype(wanted) for x in h)


def implementations(method: str, chunk: int, dtype: Any, size: int) -> dict[str, Algorithm]:
    """Every implementation for that many states a channel and that dtype, by the name of its method."""
    return {**algorithms(chunk), **fused("coupled_scan", method, dtype, size)}


def _check(A, b, h0, reset, mask, chunk):
    if not b or len(A) != len(b) or any(len(row) != len(b) for row in A):
        raise ValueError(f"A must have {len(b)} rows of {len(b)} arrays, as many as b, got {[len(row) for row in A]}")
    named = {f"A[{i}][{j}]": a for i, row in enumerate(A) for j, a in enumerate(row)}
    inputs = {f"b[{i}]": x for i, x in enumerate(b)}
    starts = {} if h0 is None else {f"h0[{i}]": x for i, x in enumerate(h0)}
    check_real(**named, **inputs, **starts)
    check_decay(**named)
    check_bool(reset=reset, mask=mask)
    check_positive(chunk=chunk)
    shapes = {name: (x, "B T D") for name, x in inputs.items()} | {name: (x, "B D") for name, x in starts.items()}
    check_shapes(**shapes, reset=(reset, "B T"), mask=(mask, "B T"))
    shape = b[0].shape
    if shape[1] < 1:
        raise ValueError(f"b must have at least one time step, got shape {shape}")
    for name, a in named.items():
        if a.ndim != 3 or any(m not in (1, n) for m, n in zip(a.shape, shape, strict=True)):
            raise ValueError(f"{name} must broadcast to b of shape {shape} axis by axis, got shape {a.shape}")
