"""What an mLSTM reads of its matrix memory: exponential attention over its own normaliser."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.exponential_attention import NEUTRAL
from jaxseq.ops.sharded import exponential_attention

State = dict[str, jax.Array]


def mlstm(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    i: jax.Array,
    f: jax.Array,
    state: State,
    *,
    eps: float = 1e-6,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, State]:
    """h_t = S_tᵀ q_t / max(|n_t . q_t|, 1), with S and n the sums of e^i k vᵀ and e^i k, forgotten by σ(f).

    Beck et al. 2024, "xLSTM", equations 19 to 27, with q / √K for q. S and n are kept in units of e^m, in which the 1
    is e^{-m}, and eps is added to the denominator as in the authors' code.

    Args:
      q, k: (B, T, H, K), v: (B, T, H, V), any float dtype.
      i, f: what the gates are made of (B, T, H), float32 or wider.
      state: {"S": (B, H, K, V), "n": (B, H, K), "m": (B, H)} before the first step, see `empty_memory`.
      reset, mask: as in `exponential_attention`.

    Returns:
      h (B, T, H, V) and the state after the last step, float32 or wider.

    Raises:
      ValueError: as in `exponential_attention`.
    """
    before = (state["S"], state["n"], state["m"])
    options = {"scale": q.shape[-1] ** -0.5, "reset": reset, "mask": mask}
    num, den, m, (S, n, last) = exponential_attention(q, k, v, jax.nn.log_sigmoid(f), i, before, **options)
    h = num / (jnp.maximum(jnp.abs(den), jnp.exp(-m)) + eps)[..., None]
    return h, {"S": S, "n": n, "m": last}


def empty_memory(batch: int, heads: int, key: int, value: int) -> State:
    """The state of an mLSTM before a document: nothing, in units of next to nothing. All float32."""
    return {
        "S": jnp.zeros((batch, heads, key, value), jnp.float32),
        "n": jnp.zeros((batch, heads, key), jnp.float32),
        "m": jnp.full((batch, heads), NEUTRAL, jnp.float32),
    }
