"""The matrix product of a layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.placement import splits


def matmul(x: jax.Array, w: jax.Array, dtype: Any = None) -> jax.Array:
    """x W over the last axis, x (..., D), W (D, F), in `dtype` (default x's); bfloat16 products add up in float32.

    W is cast to x's dtype. The leading axes are merged first: with them apart, XLA:CPU transposes the operands of the
    weight gradient, element by element inside the fusion that makes them, and a SwiGLU's gradient takes 1.7 times as
    long at (B, T, D, hidden) = (32, 256, 384, 1024) on 2 cores (`python launch/benchmark.py matmul`).
    Not where time is split over devices: rows and time merged are no axis that they could share.
    """
    product = partial(jnp.matmul, preferred_element_type=dtype or x.dtype)
    if x.ndim > 2 and splits("seq", x.shape[1]):
        return product(x, w.astype(x.dtype))
    y = product(x.reshape(-1, x.shape[-1]), w.astype(x.dtype))
    return y.reshape(*x.shape[:-1], w.shape[-1])
