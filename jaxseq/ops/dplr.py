"""S_t = (Diag(e^{log_a_t}) + b_t a_tᵀ) S_{t-1} + k_t v_tᵀ, y_t = S_tᵀ q_t: diagonal plus low rank, in chunks.

Inside a chunk whose state before it is S, with c_t = Σ_{i<=t} log_a_i from the chunk's start, w_t = S_{t-1}ᵀ a_t is the
only unknown (Yang et al. 2024, "Parallelizing linear transformers with the delta rule", section 3.2, with decays as in
Yang et al. 2024, "Gated delta networks", section 3.3):

    w_t = Sᵀ (e^{c_{t-1}} a_t) + Σ_{j<t} A_ab[t, j] w_j + Σ_{j<t} A_ak[t, j] v_j
    A_xy[t, j] = Σ_κ x_tκ y_jκ e^{c_{t-1,κ} - c_jκ}

one triangular system for all its steps, whose solution is affine in S. The rest is `matrix_state.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.checks import check_shapes
from jaxseq.ops.decay import decayed_scores
from jaxseq.ops.matrix_state import attend, check, from_start, outer, product, read_state, scaled, to_end, write
from jaxseq.ops.triangular import unit_lower_solve


def dplr_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    a: jax.Array,
    b: jax.Array,
    log_a: jax.Array | None = None,
    state: jax.Array | None = None,
    *,
    scale: float = 1.0,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    chunk: int = 32,
    method: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """y_t = scale S_tᵀ q_t with S_t = (Diag(e^{log_a_t}) + b_t a_tᵀ) S_{t-1} + k_t v_tᵀ.

    The transition of Peng et al. 2025, "RWKV-7", equation 16, transposed to states of (key, value). Nothing bounds it:
    a and b whose products with the decays exceed 1 in size make the state grow.

    Args:
      q: queries (B, T, H, K), any float dtype.
      k: keys (B, T, H, K).
      v: values (B, T, H, V).
      a: what the state before the step is read with (B, T, H, K).
      b: where what was read is written (B, T, H, K).
      log_a: logarithm of the decays, finite, one per head (B, T, H) or one per key channel (B, T, H, K), float32 or
        wider; no decay if None.
      state: S before the first step (B, H, K, V); zero if None.
      scale: a number.
      reset: (B, T) bool, True where the state before the step is zero.
      mask: (B, T) bool, False at padding: the step leaves the state as it is, but for a reset there.
      chunk: steps of a chunk; the backward pass keeps one state per chunk.
      method: "chunked" (a sequential scan over the chunks' states), "associative" (the same with an associative scan),
        "sequential" (one step at a time), or "auto", the fastest one measured on the platform.

    Returns:
      y (B, T, H, V) in v's dtype, unspecified but finite at padding, and the state after the last step (B, H, K, V),
      float32 or wider as all sums are. A value that is not finite makes all of its head's y NaN from its step to the
      end of its document ("sequential": what it reaches there). A state that overflows, all arguments being finite, in
      the very chunk in which the next document starts may spoil that one too, unless by "sequential".

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input, a half-precision log_a, no time step, an unknown
        method, a chunk below 1.
    """
    check_shapes(q=(q, "B T H K"), v=(v, "B T H V"))
    check_shapes(q=(q, "B T H K"), k=(k, "B T H K"), a=(a, "B T H K"), b=(b, "B T H K"))
    check(q, k, v, state, log_a, reset, mask, chunk, a=a, b=b)
    tokens = {"q": q * scale, "k": k, "v": v, "a": a, "b": b}
    return attend("dplr_attention", _within, _step, tokens, log_a, state, reset, mask, chunk, method)


def _within(read, q, k, v, a, b, log_a, document):
    """What a chunk does: what b writes depends on the state before it, what k writes does not."""
    scores = decayed_scores((q, a), (b, k), log_a, document, strict=(False, True))
    of_q, of_a = scores[..., 0, :, :, :], scores[..., 1, :, :, :]
    right = read(from_start(a, log_a, exclusive=True)) + product(of_a[..., 1, :], v)
    wrote = jnp.concatenate([unit_lower_solve(of_a[..., 0, :], right), v], axis=-2)
    keys = jnp.concatenate([to_end(x, log_a, document) for x in (b, k)], axis=-2)
    y = read(from_start(q, log_a)) + product(of_q.reshape(*of_q.shape[:-2], -1), wrote)
    return y, write(keys, wrote)


def _step(S, q, k, v, a, b, log_a):
    """S_t from S_{t-1} by the general rule, and y."""
    left = 1 if log_a is None else jnp.exp(log_a)
    w = read_state(a, S)
    of_b, of_k = (jnp.sum(q * x, axis=-1, keepdims=True) for x in (b, k))
    return scaled(S, log_a) + outer(b, w) + outer(k, v), read_state(left * q, S) + of_b * w + of_k * v
