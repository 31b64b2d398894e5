"""What tells whether saved values are still the same: sums of the bits of arrays, and hashes of JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseq.cluster import compile_together


def fingerprint(tree: Any) -> int:
    """The sum of all bits of a tree of arrays, read as unsigned integers, modulo 2³².

    Exact and independent of order, so the same on any mesh; any single changed entry changes it.
    """
    compile_together(_sum_of_bits, tree)
    return int(_sum_of_bits(tree))


@jax.jit
def _sum_of_bits(tree: Any) -> jax.Array:
    return sum((_bits(leaf) for leaf in jax.tree.leaves(tree)), jnp.zeros((), jnp.uint32))


def _bits(x: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x):
        return _bits(x.real) + _bits(x.imag)
    if x.dtype == jnp.bool_:
        return jnp.sum(x, dtype=jnp.uint32)
    words = lax.bitcast_convert_type(x, np.dtype(f"uint{8 * x.dtype.itemsize}"))
    return jnp.sum(words.astype(jnp.uint32), dtype=jnp.uint32)


def digest(data: Any) -> str:
    """SHA-256 in hex of JSON data, in whatever order its keys stand."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
