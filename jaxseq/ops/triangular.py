"""(I - L)⁻¹ R for a strictly lower triangular L, in matmuls.

Tiles of 8 rows are inverted by forward substitution, and joined one after the other:

    [A 0; -L B]⁻¹ = [A⁻¹ 0; B⁻¹ L A⁻¹  B⁻¹]

This is as stable as substitution (64 repeated keys, replaced 1.9-fold: tests/ops/test_triangular.py); joining halves
instead errs more. The doubling of Neumann's series, (I + L)(I + L²)..., is not stable: the powers of L grow to 1e20
and cancel in an inverse whose entries are below 2. A library's triangular solve is one call per matrix, slow on CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.checks import check_inexact

TILE = 8  # rows of a substitution


def unit_lower_solve(L: jax.Array, R: jax.Array) -> jax.Array:
    """X with X_t = R_t + Σ_{j<t} L[t, j] X_j, that is (I - L) X = R.

    Args:
      L: (..., C, C), float32 or float64; only what is below the diagonal is read.
      R: (..., C, V), with the same leading axes.

    Returns:
      X (..., C, V). Products are in full precision on every platform. Derivatives of every order are two more
      products: dX = (I - L)⁻¹ (dR + dL X).

    Raises:
      ValueError: integer input, or shapes that do not fit.
    """
    check_inexact(L=L, R=R)
    if L.ndim < 2 or L.shape[-1] != L.shape[-2]:
        raise ValueError(f"L must have shape (..., C, C), got {L.shape}")
    if R.ndim != L.ndim or R.shape[:-1] != L.shape[:-1]:
        raise ValueError(f"R must have shape {(*L.shape[:-1], 'V')}, got {R.shape}")
    return _solve(L, R)


@jax.custom_jvp
def _solve(L, R):
    return _product(_inverse(L), R)


@_solve.defjvp
def _tangent(primals, tangents):
    (L, R), (dL, dR) = primals, tangents
    inverse = _inverse(L)
    X = _product(inverse, R)
    return X, _product(inverse, dR + _product(jnp.tril(dL, -1), X))


def _inverse(L):
    """(I - L)⁻¹, a tile of rows at a time."""
    size = L.shape[-1]
    tile = min(TILE, size)
    L = jnp.pad(L, [(0, 0)] * (L.ndim - 2) + [(0, -size % tile)] * 2)
    starts = range(0, L.shape[-1], tile)
    diagonal = _by_substitution(jnp.stack([L[..., t : t + tile, t : t + tile] for t in starts], axis=-3))
    inverse = diagonal[..., 0, :, :]
    for t in starts[1:]:
        last = diagonal[..., t // tile, :, :]
        corner = _product(last, _product(L[..., t : t + tile, :t], inverse))
        above = jnp.pad(inverse, [(0, 0)] * (L.ndim - 1) + [(0, tile)])
        inverse = jnp.concatenate([above, jnp.concatenate([corner, last], axis=-1)], axis=-2)
    return inverse[..., :size, :size]


def _by_substitution(L):
    """(I - L)⁻¹ row by row, for a few rows."""
    size = L.shape[-1]
    unit = jnp.eye(size, dtype=L.dtype)
    rows = [jnp.broadcast_to(unit[0], L.shape[:-1])]
    for t in range(1, size):
        rows.append(unit[t] + sum(L[..., t, j, None] * rows[j] for j in range(t)))
    return jnp.stack(rows, axis=-2)


def _product(x, y):
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)
