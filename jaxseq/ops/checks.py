"""Argument checks shared by the ops: one line that names the argument, the requirement and the value."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def check_shapes(**named: tuple[jax.Array | None, str]) -> dict[str, int]:
    """Checks ranks and shared axes, and returns the size bound to every letter.

    `check_shapes(x=(x, "B T C"), w=(w, "W C"))` requires a rank-3 x, a rank-2 w and the same C in both. A number is
    itself, a final `...` allows further axes, and an array that is None is skipped. Raises ValueError otherwise.
    """
    sizes: dict[str, int] = {}
    for name, (array, spec) in named.items():
        if array is None:
            continue
        letters = spec.split()
        if len(jnp.shape(array)) != len(letters) if letters[-1] != "..." else jnp.ndim(array) < len(letters) - 1:
            raise ValueError(f"{name} must have shape ({spec}), got {jnp.shape(array)}")
        for letter, size in zip(letters, jnp.shape(array), strict=False):
            wanted = int(letter) if letter.isdigit() else sizes.setdefault(letter, size) if letter != "..." else size
            if size != wanted:
                raise ValueError(f"{name} must have shape ({spec}) with {letter} = {wanted}, got {jnp.shape(array)}")
    return sizes


def check_inexact(**named: jax.Array | None) -> None:
    """Raises ValueError for an array that is neither floating point nor complex."""
    for name, array in named.items():
        if array is not None and not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
            raise ValueError(f"{name} must be floating point or complex, got dtype {jnp.result_type(array)}")


def check_real(**named: jax.Array | None) -> None:
    """Raises ValueError for an array that is not real floating point."""
    for name, array in named.items():
        if array is not None and not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise ValueError(f"{name} must be real floating point, got dtype {jnp.result_type(array)}")


def check_bool(**named: jax.Array | None) -> None:
    """Raises ValueError for an array (reset, mask) that is not boolean."""
    for name, array in named.items():
        if array is not None and jnp.result_type(array) != jnp.bool_:
            raise ValueError(f"{name} must be boolean, got dtype {jnp.result_type(array)}")


def check_decay(**named: jax.Array | None) -> None:
    """Raises ValueError for a decay or the logarithm of one in half precision."""
    for name, array in named.items():
        if array is not None and jnp.finfo(array.dtype).bits < 32:
            kind = array.dtype
            raise ValueError(f"{name} must be float32 or wider (a decay of 0.999 rounds to 1 in {kind}), got {kind}")


def check_positive(**named: Any) -> None:
    """Raises ValueError for a size that is not an int of at least 1."""
    for name, size in named.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive int, got {size!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError for a name that is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def accumulation_dtype(*arrays: jax.Array | None) -> jnp.dtype:
    """The dtype sums are carried in: at least float32, wider (float64, complex64, complex128) if given it."""
    return jnp.result_type(jnp.float32, *(jnp.result_type(x) for x in arrays if x is not None))
