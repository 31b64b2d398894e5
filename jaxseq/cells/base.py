"""What a cell is: one nonlinear step, its input map, and what it declares of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxseq.ops import matmul
from jaxseq.ops.placement import splits
from jaxseq.solvers.structure import Block, Diagonal


@dataclass(frozen=True)
class Cell:
    """A nonlinear recurrence h_t = step(params, h_{t-1}, u_t) with u = inputs(params, x) and y = output(params, h, u).

    A cell of your own defines `init`, `inputs` and `step`; the rest has these defaults. `step` sees the state alone,
    so that solvers and kernels can call it: all that depends on x only belongs in `inputs`, one large matmul over all
    steps. Give `u` as a tuple with one array per gate: stepping over slices of a shared array takes 5 to 7 times as
    long (`python launch/benchmark.py scan`, 2 CPU cores). A cell with several states per channel (the LSTM's c and h)
    takes and returns a tuple of them, in the order of `states`; with one state it is that array alone.

    Attributes:
      d_input: width of x.
      d_state: width of each state.
      heads: cells side by side: blocks of the input map and of recurrent matrices; must divide both widths.
      states: the names of a channel's states (class attribute).
      structure: the shape of dstep/dh; `Diagonal()` for one state and `Block(n)` for n unless a class says otherwise.
      invariant: an interval by the name of a state that h never leaves once in it, where the paper has one.
      decay: names of the parameters that weight decay applies to.
      clip: recommended bound on the entries of a parameter, by name, kept during training.
    """

    d_input: int
    d_state: int
    heads: int = 1

    states: ClassVar[tuple[str, ...]] = ("h",)
    invariant: ClassVar[dict[str, tuple[float, float]]] = {}
    decay: ClassVar[tuple[str, ...]] = ()
    clip: ClassVar[dict[str, float]] = {}

    def __post_init__(self) -> None:
        for name in ("d_input", "d_state", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_input % self.heads or self.d_state % self.heads:
            raise ValueError(f"heads = {self.heads} must divide d_input = {self.d_input} and d_state = {self.d_state}")

    @property
    def structure(self) -> Any:
        """The shape of dstep/dh."""
        return Diagonal() if len(self.states) == 1 else Block(len(self.states))

    def init(self, key: jax.Array) -> Any:
        """Parameters: a dict of float32 arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define init(key)")

    def inputs(self, params: Any, x: jax.Array) -> Any:
        """u, leaves (B, T, ...) float32, from x (B, T, d_input)."""
        raise NotImplementedError(f"{type(self).__name__} must define inputs(params, x)")

    def step(self, params: Any, h: Any, u: Any) -> Any:
        """The next state from h, one array (..., d_state) or a tuple of them, and u with the same leading axes."""
        raise NotImplementedError(f"{type(self).__name__} must define step(params, h, u)")

    def output(self, params: Any, h: Any, u: Any) -> jax.Array:
        """y (B, T, d_state) from the states after the step and u: by default the last state in `states`."""
        return h if len(self.states) == 1 else h[-1]

    def project(self, h: Any) -> Any:
        """h with every state that has an invariant interval brought back into it; solvers do so when they stray."""
        leaves = dict(zip(self.states, jax.tree.leaves(h), strict=True))
        kept = [jnp.clip(x, *self.invariant[name]) if name in self.invariant else x for name, x in leaves.items()]
        return jax.tree.unflatten(jax.tree.structure(h), kept)

    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """Logical sharding axes by parameter name; a parameter that is not listed is replicated."""
        return {}

    def init_state(self, batch: int) -> Any:
        """The state before a document: zeros (batch, d_state) float32, one array or a tuple."""
        zeros = jnp.zeros((batch, self.d_state), jnp.float32)
        return zeros if len(self.states) == 1 else (zeros,) * len(self.states)


def head_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """x W with W block-diagonal, float32 or wider: x (B, T, D), w (heads, D / heads, E / heads), result (B, T, E)."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    if w.shape[0] == 1:
        return matmul(x, w[0], dtype)
    rows = x if x.ndim > 2 and splits("seq", x.shape[1]) else x.reshape(-1, x.shape[-1])  # see `ops.matmul`
    blocks = jnp.moveaxis(rows.reshape(*rows.shape[:-1], *w.shape[:2]), -2, 0)  # XLA:CPU refuses bfloat16 otherwise
    y = jnp.einsum("h...i,hij->h...j", blocks, w.astype(x.dtype), preferred_element_type=dtype)
    return jnp.moveaxis(y, 0, -2).reshape(*x.shape[:-1], -1)
