"""The layer that does not look at other tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.mixers.base import linear


def squared_relu(x: jax.Array) -> jax.Array:
    """max(x, 0)² (So et al. 2021, arXiv 2109.08668)."""
    return jnp.square(nn.relu(x))


GATED: dict[str, Callable[[jax.Array], jax.Array]] = {"swiglu": nn.silu, "geglu": partial(nn.gelu, approximate=True)}
PLAIN: dict[str, Callable[[jax.Array], jax.Array]] = {"relu2": squared_relu}


class MLP(nn.Module):
    """y = W_down (f(W_gate x) W_up x) for "swiglu" and "geglu" (Shazeer 2020, arXiv 2002.05202), W_down f(W_up x) for
    "relu2"; x and y (B, T, D), biases if `bias`. GELU is its approximation by tanh.
    """

    hidden: int
    kind: str = "swiglu"
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""

        def wide(name: str) -> jax.Array:
            return linear(self, name, x, self.hidden, ("embed", "mlp"), bias=self.bias)

        y = GATED[self.kind](wide("w_gate")) * wide("w_up") if self.kind in GATED else PLAIN[self.kind](wide("w_up"))
        return linear(self, "w_down", y, x.shape[-1], ("mlp", "embed"), bias=self.bias)
