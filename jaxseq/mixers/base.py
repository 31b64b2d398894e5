"""What every mixer shares: its contract, and a linear map."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.ops import matmul
from jaxseq.sharding import param


class Mixer(nn.Module):
    """A layer over time, causal: (B, T, width) -> (B, T, width).

    Fields are hyperparameters (JSON leaves), `width` first. The recurrent state is an argument and a return value: one
    call equals two calls over its halves with the state carried, and T calls with one token each, which is decoding.
    A `reset` starts the state anew, as in a separate run; a token with `mask` False neither writes nor decays.
    """

    width: int

    def init_state(self, batch: int) -> Any:
        """The state before a document: a pytree of arrays with the batch on axis 0."""
        raise NotImplementedError(f"{type(self).__name__} must define init_state(batch)")

    def __call__(
        self, x: jax.Array, *, state: Any = None, reset: jax.Array | None = None, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """y (B, T, width) in x's dtype and the state after the last token, from x (B, T, width).

        `state` None is `init_state(B)`; `reset` and `mask` are (B, T) bool, see the class.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


def linear(module: nn.Module, name: str, x: jax.Array, features: int, axes: tuple[str | None, str | None]) -> jax.Array:
    """x W without bias, x (..., D), W (D, features) from N(0, 1/D), in x's dtype. Called inside `@nn.compact`."""
    init = nn.initializers.normal(x.shape[-1] ** -0.5)
    w = module.param(name, param(init, *axes), (x.shape[-1], features))
    return matmul(x, w)


def scale(module: nn.Module, name: str, width: int, axis: str) -> jax.Array:
    """A vector of ones (width,), the gain of a norm. Called inside `@nn.compact`."""
    return module.param(name, param(nn.initializers.ones, axis), (width,))


def as_state(x: jax.Array) -> jax.Array:
    """A state is carried in float32 or wider whatever the activations' dtype."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
