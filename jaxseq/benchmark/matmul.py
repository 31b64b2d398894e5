"""Why `ops.matmul` merges the leading axes: a SwiGLU, forward and backward, with them merged and apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import ops
from jaxseq.benchmark.timing import device, medians


def matmul(repeats: int = 9) -> Iterator[dict[str, Any]]:
    """One row: the time with leading axes apart over that with them merged, at (B, T, D, hidden) = (32, 256, 384, 1024)
    in float32, and the largest deviation between the two gradients, relative to the largest entry.
    """
    rows, length, width, hidden = 32, 256, 384, 1024
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (rows, length, width))
    shapes = ((width, hidden), (width, hidden), (hidden, width))
    weights = [jax.random.normal(k, s) * s[0] ** -0.5 for k, s in zip(keys[1:], shapes, strict=True)]
    merged, apart = (_gradient(product) for product in (ops.matmul, jnp.matmul))
    times = medians({"merged": lambda: merged(x, *weights), "apart": lambda: apart(x, *weights)}, repeats)
    pairs = zip(merged(x, *weights), apart(x, *weights), strict=True)
    yield {
        "benchmark": "matmul",
        "shape": [rows, length, width, hidden],
        "dtype": "float32",
        "device": device(),
        "apart_over_merged": round(times["apart"] / times["merged"], 2),
        "deviation": max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs),
    }


def _gradient(product: Callable[..., jax.Array]) -> Any:
    def swiglu(x, w_gate, w_up, w_down):
        y = product(jax.nn.silu(product(x, w_gate)) * product(x, w_up), w_down)
        return jnp.mean(jnp.square(y))

    return jax.jit(jax.grad(swiglu, argnums=(0, 1, 2, 3)))
