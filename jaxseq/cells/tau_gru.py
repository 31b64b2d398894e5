"""τ-GRU, a GRU with weighted time-delay feedback (Erichson, Lim and Mahoney 2022, arXiv 2212.00228).

    u_n = tanh(x_n W_u + h_n R_u + b_u),   z_n = tanh(x_n W_z + h_{n-d} R_z + b_z)
    g_n = σ(x_n W_g + h_n R_g + b_g),      a_n = σ(x_n W_a + h_n R_a + b_a)
    h_{n+1} = (1 - g_n) h_n + g_n (u_n + a_n z_n)

The states are h_n, h_{n-1}, ..., h_{n-d}, all of them zero before the document. Each stays in [-2, 2]. The paper has no
biases; they and the initialisation are torchrecurrent 0.2.5's: W and R Glorot uniform, b zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxseq.cells.glorot import GlorotCell
from jaxseq.cells.recurrent import Params

State = tuple[jax.Array, ...]


@dataclass(frozen=True)
class TauGRU(GlorotCell):
    """Gates u, z, g, a; delay + 1 states, the newest first. See `GlorotCell` for the parameters.

    Attributes:
      delay: d, how many steps older than h_n the state is that z sees, at least 1.
    """

    delay: int = 1

    gates = ("u", "z", "g", "a")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delay < 1:
            raise ValueError(f"delay must be at least 1, got {self.delay}")

    @property
    def states(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """h0 for h_n, h1 for h_{n-1} and so on."""
        return tuple(f"h{lag}" for lag in range(self.delay + 1))

    @property
    def invariant(self) -> dict[str, tuple[float, float]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """[-2, 2] for every lag."""
        return dict.fromkeys(self.states, (-2.0, 2.0))

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(h_{n+1}, ..., h_{n-d+1}) from (h_n, ..., h_{n-d}), each (..., d_state)."""
        now, delayed = h[0], h[-1]
        seen = (now, delayed, now, now)
        c, z, g, a = (x + self.recur(r, past) for x, r, past in zip(u, params["r"], seen, strict=True))
        g = jax.nn.sigmoid(g)
        return (1 - g) * now + g * (jnp.tanh(c) + jax.nn.sigmoid(a) * jnp.tanh(z)), *h[:-1]

    def output(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> jax.Array:
        """The newest state (B, T, d_state)."""
        return h[0]
