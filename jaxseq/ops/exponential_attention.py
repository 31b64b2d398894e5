"""Linear attention whose keys weigh e^{log_i}, of any size: the matrix memory of the mLSTM, kept in units of e^m.

With f = e^{log_a} and i = e^{log_i}, the sums S_t = f_t S_{t-1} + i_t k_t v_tᵀ and n_t = f_t n_{t-1} + i_t k_t
overflow. In units of e^{m_t} they do not (Beck et al. 2024, "xLSTM", equations 19 to 27 and 15):

    m_t = max(log_a_t + m_{t-1}, log_i_t)
    S_t = e^{log_a_t + m_{t-1} - m_t} S_{t-1} + e^{log_i_t - m_t} k_t v_tᵀ

which is a linear attention with decays and weights of at most 1. m is a choice of units: no number that is made of
num, den and m together depends on it, so it has no gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import over_time, previous
from jaxseq.ops.checks import accumulation_dtype, check_decay, check_real, check_shapes
from jaxseq.ops.linear_attention import check, linear_attention

NEUTRAL = -1e30  # m of an empty memory: finite, because -inf has no difference to itself


def exponential_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_a: jax.Array,
    log_i: jax.Array,
    state: tuple[jax.Array, jax.Array, jax.Array] | None = None,
    *,
    scale: float = 1.0,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    chunk: int = 64,
    method: str = "auto",
) -> tuple[jax.Array, jax.Array, jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """num_t = scale S_tᵀ q_t and den_t = scale n_t . q_t, both in units of e^{m_t}.

    The caller divides: the paper's h_t is num / max(|den|, e^{-m}).

    Args:
      q: queries (B, T, G, K), any float dtype. G divides H: head h reads with q, k of head h // (H / G).
      k: keys (B, T, G, K).
      v: values (B, T, H, V).
      log_a: logarithm of the forget gate (B, T, H), float32 or wider.
      log_i: logarithm of the input gate (B, T, H), float32 or wider, of any size.
      state: (S, n, m) before the first step, (B, H, K, V), (B, H, K), (B, H); zero, zero and -1e30 if None.
      scale: a number.
      reset: (B, T) bool, True where the state before the step is (0, 0, -1e30).
      mask: (B, T) bool, False at padding: the step leaves the state as it is, but for a reset there.
      chunk: steps of a chunk; the backward pass keeps one state per chunk.
      method: "chunked", "associative", "sequential" or "auto", as in `linear_attention`.

    Returns:
      num (B, T, H, V) in v's dtype, den and m (B, T, H), and the state (S, n, m) after the last step, float32 or wider.

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input, half-precision gates, no time step, an unknown
        method, a chunk below 1.
    """
    check(q, k, v, log_a, reset, mask, chunk)
    S, n, m = (None, None, None) if state is None else state
    check_real(log_i=log_i, S=S, n=n, m=m)
    check_decay(log_i=log_i)
    check_shapes(v=(v, "B T H V"), log_a=(log_a, "B T H"), log_i=(log_i, "B T H"))
    check_shapes(q=(q, "B T G K"), v=(v, "B T H V"), S=(S, "B H K V"), n=(n, "B H K"), m=(m, "B H"))
    dtype = accumulation_dtype(q, k, v, log_a, log_i, S, n, m)
    m = jnp.full((v.shape[0], v.shape[2]), NEUTRAL, dtype) if m is None else jnp.asarray(m, dtype)
    decay, weight, largest = _in_units(jnp.asarray(log_a, dtype), jnp.asarray(log_i, dtype), m, reset, mask)
    values = jnp.concatenate([v.astype(dtype), jnp.ones((*v.shape[:-1], 1), dtype)], axis=-1) * weight[..., None]
    both = None if S is None or n is None else jnp.concatenate([S, n[..., None]], axis=-1)
    y, last = linear_attention(
        q, k, values, decay, both, scale=scale, reset=reset, mask=mask, chunk=chunk, method=method
    )
    return y[..., :-1].astype(v.dtype), y[..., -1], largest, (last[..., :-1], last[..., -1], largest[:, -1])


def _in_units(log_a, log_i, m, reset, mask):
    """The logarithms of the decays and the weights of the keys in units of e^{m_t}, and m_t (B, T, H)."""
    if mask is not None:
        log_a, log_i = (jnp.where(over_time(mask, x), x, other) for x, other in ((log_a, 0), (log_i, NEUTRAL)))
    units = lax.stop_gradient((log_a, log_i, m))
    largest = _largest(*units, reset)
    before = _unless(reset, previous(largest, units[2], None))
    # The two m are nearly equal: their difference is exact, and log_a keeps its digits.
    return log_a + (before - largest), jnp.exp(log_i - largest), largest


def _largest(log_a, log_i, m, reset):
    """m_t = max(log_a_t + m_{t-1}, log_i_t), in logarithmic depth."""
    first = jnp.maximum(log_a[:, 0] + _unless(None if reset is None else reset[:, 0], m), log_i[:, 0])
    elements = (log_a, log_i.at[:, 0].set(first), reset)
    return lax.associative_scan(_compose, elements, axis=1)[1]


def _compose(first, second):
    (a1, m1, reached), (a2, m2, reset) = first, second
    a = a1 + a2 if reset is None else jnp.where(over_time(reset, a2), a2, a1 + a2)
    return a, jnp.maximum(a2 + _unless(reset, m1), m2), None if reset is None else reached | reset


def _unless(reset, m):
    return m if reset is None else jnp.where(over_time(reset, m), NEUTRAL, m)
