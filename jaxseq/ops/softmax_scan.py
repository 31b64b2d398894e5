"""Softmax attention over everything so far, with scores that do not depend on the query, as a recurrence."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.affine_methods import algorithms
from jaxseq.ops.algebra import FLOOR, MAXIMA, over_time, previous
from jaxseq.ops.checks import accumulation_dtype, check_bool, check_decay, check_real, check_shapes
from jaxseq.ops.choice import dispatch
from jaxseq.ops.linear_scan import linear_scan

State = tuple[jax.Array, jax.Array, jax.Array]


def softmax_scan(
    s: jax.Array,
    v: jax.Array,
    state: State | None = None,
    *,
    decay: jax.Array | None = None,
    bonus: jax.Array | None = None,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    method: str = "auto",
) -> tuple[jax.Array, State]:
    """o_t = Σ_{j≤t} e^{s_j - (t-j) decay} v_j / Σ_{j≤t} e^{s_j - (t-j) decay}.

    With a bonus the current token gets a score of its own, and the past has not decayed yet when it is read:

        o_t = (Σ_{j<t} e^{s_j - (t-1-j) decay} v_j + e^{bonus + s_t} v_t) / (the same with v = 1)

    Sums run over the valid tokens of one document, and t - j counts those. Without decay this is Aaren (Feng et al.
    2024, "Attention as an RNN", section 3.2); with decay and bonus it is the WKV operator of RWKV-4 (Peng et al. 2023,
    equation 14, with k for s and w, u for decay and bonus). The state (m, u, w) stands for e^m u = Σ e^{s_j - (t-j)
    decay} and e^m w = Σ e^{s_j - (t-j) decay} v_j, where m is the largest exponent so far. What is exponentiated is
    never positive. m is a choice of units which o does not depend on, so that it is taken as constant by derivatives.

    Args:
      s: scores (B, T, H), any float dtype. A score of -1e30 or less weighs nothing.
      v: values (B, T, H, V), any float dtype.
      state: m (B, H), u (B, H) and w (B, H, V) of the past; None is none, (-1e30, 0, 0).
      decay: per head and step, at least 0, not checked; broadcastable to (H,), float32 or wider. None is no decay.
      bonus: added to the score of the current token, in o_t only; broadcastable to (H,). None: see above.
      reset: (B, T) bool, True where a document starts.
      mask: (B, T) bool, False at padding: such a token neither counts nor decays.
      method: how the scans run, as `linear_scan`'s.

    Returns:
      o (B, T, H, V) in v's dtype, 0 before the first valid token, and the state after the last step, float32 or wider.

    Raises:
      ValueError: wrong ranks or shapes, input that is not real, a half-precision decay, an unknown method.
    """
    s, v = jnp.asarray(s), jnp.asarray(v)
    _check(s, v, state, decay, bonus, reset, mask)
    dtype, heads = accumulation_dtype(s, v), s.shape[2]
    values, (m0, u0, w0) = v.astype(dtype), (x.astype(dtype) for x in state or _empty(v))
    decay = jnp.broadcast_to(jnp.asarray(0 if decay is None else decay, dtype), (1, 1, heads))
    s = _scores(s.astype(dtype), mask)
    m = _running_maximum(s, decay, m0, reset, mask, method)
    m_before = previous(m, m0, reset, zero=FLOOR)
    kept = decay if mask is None else jnp.where(over_time(mask, s), decay, 0)
    a = jnp.exp((m_before - m) - kept)  # in this order: large scores cancel exactly, and then nothing is lost
    new, scan = _weight(s, m), partial(linear_scan, reset=reset, method=method)
    u, w = scan(a, new, u0), scan(a[..., None], new[..., None] * values, w0)
    final = m[:, -1], u[:, -1], w[:, -1]
    if bonus is not None:
        before = m_before, previous(u, u0, reset), previous(w, w0, reset)
        u, w = _with_bonus(before, s, jnp.asarray(bonus, dtype), values)
    return (w / jnp.where(u == 0, 1, u)[..., None]).astype(v.dtype), final


def _with_bonus(before, s, bonus, v):
    """Sums over the undecayed past and the current token."""
    m, u, w = before
    top = lax.stop_gradient(jnp.maximum(m, s + bonus))
    past, new = jnp.exp(m - top), _weight(s, top, bonus)
    return past * u + new, past[..., None] * w + new[..., None] * v


def _empty(v):
    batch, _, heads, width = v.shape
    return jnp.full((batch, heads), FLOOR), jnp.zeros((batch, heads)), jnp.zeros((batch, heads, width))


def _scores(s, mask):
    """s, at least -1e30 and that at padding; NaN stays NaN."""
    s = jnp.where(s < FLOOR, FLOOR, s)
    return s if mask is None else jnp.where(over_time(mask, s), s, FLOOR)


def _check(s, v, state, decay, bonus, reset, mask):
    check_real(s=s, v=v, decay=decay, bonus=bonus)
    check_decay(decay=None if decay is None else jnp.asarray(decay))
    check_bool(reset=reset, mask=mask)
    check_shapes(s=(s, "B T H"), v=(v, "B T H V"), reset=(reset, "B T"), mask=(mask, "B T"))
    if s.shape[1] < 1:
        raise ValueError(f"s must have at least one time step, got shape {s.shape}")
    if state is not None:
        m, u, w = state
        check_real(m=m, u=u, w=w)
        check_shapes(s=(s, "B T H"), v=(v, "B T H V"), m=(m, "B H"), u=(u, "B H"), w=(w, "B H V"))
    for name, x in (("decay", decay), ("bonus", bonus)):
        if x is not None and jnp.shape(x) not in ((), (1,), (s.shape[2],)):
            raise ValueError(f"{name} must broadcast to (H,) = ({s.shape[2]},), got shape {jnp.shape(x)}")


def _running_maximum(s, decay, m0, reset, mask, method):
    """m_t = max(m_{t-1} - decay, s_t): the recurrence in the semiring of maxima."""
    runs = {name: partial(x.run, MAXIMA, reverse=False) for name, x in algorithms(128).items()}
    run = dispatch("linear_scan", method if method in runs else "auto", runs, s.shape)  # there are no kernels for it
    s, decay, m0 = lax.stop_gradient((s, decay, m0))
    return run(-decay, s, m0, reset, mask)


def _weight(s, m, bonus=0.0):
    return jnp.where(s <= FLOOR, 0, jnp.exp((s - m) + bonus))
