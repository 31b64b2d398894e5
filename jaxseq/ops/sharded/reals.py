"""Complex arrays that all parts of time share, as pairs of real ones.

Their gradient is a sum over devices, and instead of summing a complex vector libtpu gathers those of all chips.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Reals(NamedTuple):
    """The two parts of a complex array."""

    real: Any
    imag: Any


def is_reals(x: Any) -> bool:
    """Whether this stands for a complex array."""
    return isinstance(x, Reals)


def in_reals(tree: Any) -> Any:
    """The tree with Reals for complex arrays."""
    return jax.tree.map(lambda x: Reals(x.real, x.imag) if jnp.iscomplexobj(x) else x, tree)


def in_complex(tree: Any) -> Any:
    """The inverse."""
    return jax.tree.map(lambda x: jax.lax.complex(*x) if is_reals(x) else x, tree, is_leaf=is_reals)
