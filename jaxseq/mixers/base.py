"""What every mixer shares: its contract, its place in the stack, and the parameters that most of them declare."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.ops import matmul
from jaxseq.ops.sharded import causal_conv
from jaxseq.sharding import param

UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(±1/√fan_in), torch's default


class Depth(NamedTuple):
    """Where a layer stands among the layers of its kind, given to mixers with `uses_depth`.

    Attributes:
      index: int32 scalar, 0 for the layer nearest to the input.
      layers: how many there are.
      row: this layer's row of what `Mixer.rows` makes of the model's table; None without a table.
      first: (B, T, first_width) from the layer with index 0 (at which it is zeros); None if the mixer gives nothing.
      place: int32 scalar, the index among layers of all kinds; None where there is no other.
      total: how many layers of all kinds there are.
    """

    index: jax.Array
    layers: int
    row: jax.Array | None = None
    first: jax.Array | None = None
    place: jax.Array | None = None
    total: int = 1

    @property
    def fraction(self) -> jax.Array:
        """0 at the first layer, 1 at the last: float32 scalar."""
        return self.index.astype(jnp.float32) / max(self.layers - 1, 1)


class Mixer(nn.Module):
    """A layer over time, causal: (B, T, width) -> (B, T, width).

    Fields are hyperparameters (JSON leaves), `width` first. The recurrent state is an argument and a return value: one
    call equals two calls over its halves with the state carried, and T calls with one token each, which is decoding.
    A `reset` starts the state anew, as in a separate run; a token with `mask` False neither writes nor decays.

    A mixer that must know its place in the stack has `uses_depth` True: it takes `depth` (a Depth, or None outside a
    model) and, if it was given one, returns a third value, what layer 0 gives to the others (None but for
    `first_width`).
    """

    uses_depth: ClassVar[bool] = False
    starts_by_depth: ClassVar[bool] = False  # its parameters begin with other values in every layer

    width: int

    def init_state(self, batch: int) -> Any:
        """The state before a document: a pytree of arrays with the batch on axis 0."""
        raise NotImplementedError(f"{type(self).__name__} must define init_state(batch)")

    def table_width(self) -> int | None:
        """Columns of a table with one learned row per layer that the model declares for this mixer; None for none."""
        return None

    def rows(self, table: jax.Array) -> jax.Array:
        """What each layer gets (layers, n) of the table (layers, table_width)."""
        return table

    def first_width(self) -> int | None:
        """Width of what the first layer of this kind gives to the others; None if nothing."""
        return None

    def __call__(
        self, x: jax.Array, *, state: Any = None, reset: jax.Array | None = None, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """y (B, T, width) in x's dtype and the state after the last token, from x (B, T, width).

        `state` None is `init_state(B)`; `reset` and `mask` are (B, T) bool, see the class.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


def linear(
    module: nn.Module,
    name: str,
    x: jax.Array,
    features: int,
    axes: tuple[str | None, str | None],
    *,
    bias: bool = False,
    init: Any = None,
) -> jax.Array:
    """x W (+ b), x (..., D), W (D, features) from N(0, 1/D) unless `init` is given, in x's dtype.

    The parameters are `name` ("w_..."), and for the bias, zeros at first, the same with b for w ("b_..."). Called
    inside `@nn.compact`.
    """
    init = nn.initializers.normal(x.shape[-1] ** -0.5) if init is None else init
    y = matmul(x, module.param(name, param(init, *axes), (x.shape[-1], features)))
    if not bias:
        return y
    b = module.param(f"b{name.removeprefix('w')}", param(nn.initializers.zeros, axes[1]), (features,))
    return y + b.astype(y.dtype)


def scale(module: nn.Module, name: str, width: int, axis: str | None) -> jax.Array:
    """A vector of ones (width,), the gain of a norm. Called inside `@nn.compact`."""
    return module.param(name, param(nn.initializers.ones, axis), (width,))


def short_conv(
    module: nn.Module,
    x: jax.Array,
    state: jax.Array,
    taps: int,
    *,
    reset: jax.Array | None,
    mask: jax.Array | None,
    bias: bool = True,
    name: str = "conv",
    axis: str | None = "inner",
    init: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """A causal depthwise convolution of x (B, T, C) and its state (B, taps - 1, C), float32.

    The parameters are `name`_w (taps, C), from N(0, 1/taps) unless `init` is given, and `name`_b, zeros at first.
    Called inside `@nn.compact`.
    """
    init = nn.initializers.normal(taps**-0.5) if init is None else init
    w = module.param(f"{name}_w", param(init, "conv", axis, decay=False), (taps, x.shape[-1]))
    b = module.param(f"{name}_b", param(nn.initializers.zeros, axis), (x.shape[-1],)) if bias else None
    y, state = causal_conv(x, w, b, state, reset=reset, mask=mask)
    return y, as_state(state)


def conv_heads(
    module: nn.Module,
    name: str,
    x: jax.Array,
    state: jax.Array,
    heads: int,
    size: int,
    taps: int,
    *,
    reset: jax.Array | None,
    mask: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """SiLU(conv(W x)) in heads (B, T, heads, size) and the convolution's state: a branch of the delta rules.

    The parameters are w_`name` and conv_`name`_w. Called inside `@nn.compact`.
    """
    y = linear(module, f"w_{name}", x, heads * size, ("embed", "heads"))
    conv: Any = {"reset": reset, "mask": mask, "bias": False, "axis": "heads", "init": UNIFORM}
    y, state = short_conv(module, y, state, taps, name=f"conv_{name}", **conv)
    return nn.silu(y).reshape(*x.shape[:2], heads, size), state


def as_state(x: jax.Array) -> jax.Array:
    """A state is carried in float32 or wider whatever the activations' dtype."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
