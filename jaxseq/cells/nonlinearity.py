"""Elementwise nonlinearities by name, and the intervals that the bounded ones map to."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseq.ops.checks import check_choice

Interval = tuple[float, float]


def half_sigmoid(x: jax.Array) -> jax.Array:
    """σ(x) / 2: a gate that never opens more than half."""
    return 0.5 * jax.nn.sigmoid(x)


# The slopes and scales are those of PyTorch: 0.01 for leaky_relu, 1 for elu, the tanh form of gelu.
NONLINEARITIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "exp": jnp.exp,
    "gelu": jax.nn.gelu,
    "half_sigmoid": half_sigmoid,
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}
RANGES: dict[str, Interval] = {"half_sigmoid": (0.0, 0.5), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
CONVEX = ("half_sigmoid", "sigmoid")  # as a gate g in (1 - g) x + g y, these keep between x and y


def check_nonlinearities(**named: str) -> None:
    """Raises ValueError for a field that names no nonlinearity."""
    for name, value in named.items():
        check_choice(name, value, tuple(NONLINEARITIES))


def range_of_product(*names: str) -> Interval | None:
    """The interval that the product of these nonlinearities stays in; None if one of them is unbounded."""
    ends = [1.0]
    for name in names:
        if name not in RANGES:
            return None
        ends = [a * b for a in ends for b in RANGES[name]]
    return min(ends), max(ends)
