"""sLSTM with its stabiliser (Beck et al. 2024, "xLSTM", arXiv 2405.04517, equations 8 to 17).

    i~, f~, z~, o~ = u_v + h_{t-1} R_v for v in i, f, z, o,            u_v = x W_v + b_v
    m_t = max(i~, log σ(f~) + m_{t-1})            (m_t = i~ where n_{t-1} = 0: nothing is stored yet)
    i_t = exp(i~ - m_t),    f_t = exp(log σ(f~) + m_{t-1} - m_t)
    c_t = f_t c_{t-1} + i_t tanh(z~),    n_t = f_t n_{t-1} + i_t,    h_t = σ(o~) c_t / n_t

R_v is block-diagonal over the heads. States are c, n, m, h: c and n are to be read as e^m c and e^m n, so m is a choice
of units, on which h does not depend. One of i_t, f_t is 1, hence n >= 1 from the first step on, and |h| <= 1 as long
as |c| <= n. The rule for n = 0 is taken channel by channel (the authors' code asks whether all n are zero). The forget
gate is the sigmoid of the paper's two choices.

Initialisation is the authors' code's: W normal of deviation √(2 / (5 d_input)), R zero, biases zero but for b_f, which
falls from 5 to -7 over the k = 0 ... K - 1 channels of a head, 5 - 12 (k / (K - 1))^(0.3 + 1.3 depth).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import jax
import jax.numpy as jnp

from jaxseq.cells.recurrent import Params, RecurrentCell

State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@dataclass(frozen=True)
class SLSTM(RecurrentCell):
    """Gates i, f, z, o, states c, n, m, h. See `RecurrentCell` for the parameters.

    Attributes:
      depth: where in the stack the layer is, from 0 (the first) to 1 (the last); only for the initial b_f.
    """

    depth: float = 0.0

    gates = ("i", "f", "z", "o")
    states = ("c", "n", "m", "h")
    invariant = {"n": (0.0, inf)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.depth <= 1:
            raise ValueError(f"depth must be between 0 and 1, got {self.depth}")

    def init(self, key: jax.Array) -> Params:
        """The authors' initialisation, see the module."""
        width = self.d_state // self.heads
        place = jnp.arange(width) / max(width - 1, 1)
        b_f = jnp.tile(5 - 12 * place ** (0.3 + 1.3 * self.depth), self.heads)
        return {
            "w": sqrt(2 / (5 * self.d_input)) * jax.random.normal(key, self.w_shape(4)),
            "r": jnp.zeros(self.r_shape(4)),
            "b": jnp.zeros((4, self.d_state)).at[1].set(b_f),
        }

    def step(self, params: Params, h: State, u: tuple[jax.Array, ...]) -> State:
        """(c_t, n_t, m_t, h_t) from those before."""
        c, n, m, h_before = h
        i, f, z, o = (x + self.recur(r, h_before) for x, r in zip(u, params["r"], strict=True))
        kept = jax.nn.log_sigmoid(f) + m
        m = jnp.where(n == 0, i, jnp.maximum(i, kept))
        # Where n = 0, so is the c that f multiplies; any finite f will do there, and a larger one could overflow.
        f = jnp.exp(jnp.where(n == 0, jnp.minimum(kept - i, 0), kept - m))
        i = jnp.exp(i - m)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        return c, n, m, jax.nn.sigmoid(o) * c / n
