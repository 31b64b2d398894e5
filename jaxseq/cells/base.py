"""What a cell is: one nonlinear step, its input map, and what it declares of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxseq.ops import matmul
from jaxseq.solvers.structure import Diagonal


@dataclass(frozen=True)
class Cell:
    """A nonlinear recurrence h_t = step(params, h_{t-1}, u_t) with u = inputs(params, x) and y = output(params, h, u).

    A cell of your own defines `init`, `inputs` and `step`; the rest has these defaults. `step` sees the state alone,
    so that solvers and kernels can call it: all that depends on x only belongs in `inputs`, one large matmul over all
    steps. Give `u` as a tuple with one array per gate: stepping over slices of a shared array takes 5 to 7 times as
    long (`python launch/benchmark.py scan`, 2 CPU cores).

    Attributes:
      d_input: width of x.
      d_state: width of h.
      heads: blocks of the input map; must divide both widths.
      structure: the shape of dstep/dh (class attribute).
      decay: names of the parameters that weight decay applies to.
      clip: recommended bound on the entries of a parameter, by name, kept during training.
    """

    d_input: int
    d_state: int
    heads: int = 1

    structure: ClassVar[Any] = Diagonal()
    decay: ClassVar[tuple[str, ...]] = ()
    clip: ClassVar[dict[str, float]] = {}

    def __post_init__(self) -> None:
        for name in ("d_input", "d_state", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_input % self.heads or self.d_state % self.heads:
            raise ValueError(f"heads = {self.heads} must divide d_input = {self.d_input} and d_state = {self.d_state}")

    def init(self, key: jax.Array) -> Any:
        """Parameters: a dict of float32 arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define init(key)")

    def inputs(self, params: Any, x: jax.Array) -> Any:
        """u, leaves (B, T, ...) float32, from x (B, T, d_input)."""
        raise NotImplementedError(f"{type(self).__name__} must define inputs(params, x)")

    def step(self, params: Any, h: jax.Array, u: Any) -> jax.Array:
        """The next state (..., d_state) from h (..., d_state) and u with the same leading axes."""
        raise NotImplementedError(f"{type(self).__name__} must define step(params, h, u)")

    def output(self, params: Any, h: jax.Array, u: Any) -> jax.Array:
        """y (B, T, d_state) from the states (B, T, d_state): by default the states."""
        return h

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Logical sharding axes by parameter name; a parameter that is not listed is replicated."""
        return {}

    def init_state(self, batch: int) -> jax.Array:
        """The state before a document, zeros (batch, d_state) float32."""
        return jnp.zeros((batch, self.d_state), jnp.float32)


def head_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """x W with W block-diagonal, float32 or wider: x (B, T, D), w (heads, D / heads, E / heads), result (B, T, E)."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    if w.shape[0] == 1:
        return matmul(x, w[0], dtype)
    blocks = jnp.swapaxes(x.reshape(-1, w.shape[0], w.shape[1]), 0, 1)  # XLA:CPU refuses bfloat16 otherwise
    y = jnp.einsum("hni,hij->hnj", blocks, w.astype(x.dtype), preferred_element_type=dtype)
    return jnp.swapaxes(y, 0, 1).reshape(*x.shape[:-1], -1)
