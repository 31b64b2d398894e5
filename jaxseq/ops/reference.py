"""What every op means: one `lax.scan` over single steps, slow and obvious. Run in float64 by the tests.

Arrays are (B, T, ...). `reset` (B, T) is True where a document starts: the state before that step is zero.
`mask` (B, T) is False at padding: the step leaves the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def recurrence(
    step: Callable[[Any, Any], Any],
    u: Any,
    h0: Any,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> Any:
    """h_t = step(h_{t-1}, u_t) for every t: leaves of u (B, T, ...), of h0 (B, ...), of the result (B, T, ...)."""
    batch, time = jax.tree.leaves(u)[0].shape[:2]
    reset = jnp.zeros((batch, time), bool) if reset is None else reset
    mask = jnp.ones((batch, time), bool) if mask is None else mask

    def body(h: Any, xs: Any) -> tuple[Any, Any]:
        u_t, reset_t, mask_t = xs
        h = jax.tree.map(lambda x: jnp.where(_like(reset_t, x), 0, x), h)
        h = jax.tree.map(lambda x, y: jnp.where(_like(mask_t, x), x, y), step(h, u_t), h)
        return h, h

    time_major = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (u, reset, mask))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), lax.scan(body, h0, time_major, reverse=reverse)[1])


def linear_scan(
    a: jax.Array,
    b: jax.Array,
    h0: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
) -> jax.Array:
    """h_t = a_t h_{t-1} + b_t, elementwise; a broadcasts against b (B, T, ...)."""
    dtype = jnp.result_type(a, b)
    start = jnp.zeros(b.shape[:1] + b.shape[2:], dtype) if h0 is None else h0.astype(dtype)
    pairs = (jnp.broadcast_to(a, b.shape).astype(dtype), b.astype(dtype))
    return recurrence(lambda h, ab: ab[0] * h + ab[1], pairs, start, reset=reset, mask=mask, reverse=reverse)


def block_scan(A: jax.Array, b: jax.Array, h0: jax.Array | None = None, **options: Any) -> jax.Array:
    """h_t = A_t h_{t-1} + b_t for every block: A broadcasts against (B, T, G, K, K), b is (B, T, G, K)."""
    start = jnp.zeros(b.shape[:1] + b.shape[2:], b.dtype) if h0 is None else h0
    pairs = (jnp.broadcast_to(A, (*b.shape, b.shape[-1])), b)
    return recurrence(lambda h, Ab: jnp.einsum("bgij,bgj->bgi", Ab[0], h) + Ab[1], pairs, start, **options)


def log_linear_scan(log_a: jax.Array, log_b: jax.Array, log_h0: jax.Array | None = None, **options: Any) -> jax.Array:
    """The logarithm of h_t = a_t h_{t-1} + b_t: only for what float64 holds."""
    return jnp.log(linear_scan(jnp.exp(log_a), jnp.exp(log_b), None if log_h0 is None else jnp.exp(log_h0), **options))


def softmax_scan(
    s: jax.Array,
    v: jax.Array,
    state: tuple[jax.Array, jax.Array, jax.Array] | None = None,
    *,
    decay: jax.Array | float = 0.0,
    bonus: jax.Array | None = None,
    **options: Any,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """o_t and the two last sums, of e^{s_j - (t-j) decay} and of the same times v_j: only for what float64 holds."""
    ones = jnp.concatenate([jnp.ones_like(v[..., :1]), v], axis=-1)  # the sum of the weights beside that of the values
    start = jnp.zeros(ones[:, 0].shape, v.dtype)
    if state is not None:
        m, u, w = state
        start = jnp.exp(m)[..., None] * jnp.concatenate([u[..., None], w], axis=-1)
    kept, new = jnp.exp(-jnp.broadcast_to(decay, s.shape))[..., None], jnp.exp(s)[..., None] * ones
    sums = recurrence(  # the sums before a step and after it
        lambda h, u: jnp.stack([h[:, 1], u[0] * h[:, 1] + u[1]], axis=1),
        (kept, new),
        jnp.stack([start, start], axis=1),
        **options,
    )
    read = sums[:, :, 1] if bonus is None else sums[:, :, 0] + jnp.exp(bonus)[..., None] * new
    return read[..., 1:] / read[..., :1], (sums[:, -1, 1, :, 0], sums[:, -1, 1, :, 1:])


def cell_scan(step: Callable[[Any, Any, Any], Any], params: Any, u: Any, h0: Any, **flags: Any) -> Any:
    """h_t = step(params, h_{t-1}, u_t)."""
    return recurrence(lambda h, u_t: step(params, h, u_t), u, h0, **flags)


def causal_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    state: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """y_t = b + sum_i w_i x_{t-W+1+i} over the valid tokens of one document; the state is the last W-1 of them."""
    width = w.shape[0]
    window = jnp.zeros((x.shape[0], width - 1, x.shape[2]), x.dtype) if state is None else state
    windows = recurrence(
        lambda past, x_t: jnp.concatenate([past[:, 1:], x_t[:, None]], axis=1),
        x,
        jnp.concatenate([jnp.zeros_like(x[:, :1]), window], axis=1),
        reset=reset,
        mask=mask,
    )
    y = jnp.einsum("btwc,wc->btc", windows, w) + (0 if b is None else b)
    return y, windows[:, -1, 1:]


def linear_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_a: jax.Array | None = None,
    state: jax.Array | None = None,
    *,
    bonus: jax.Array | None = None,
    scale: float = 1.0,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """S_t = e^{log_a_t} S_{t-1} + k_t v_t^T, y_t = scale S_t^T q_t; u: scale (S_{t-1} + diag(u) k_t v_t^T)^T q_t."""
    batch, time, heads = v.shape[:3]
    q, k = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (q, k))
    a = jnp.ones((1, 1, heads, 1), v.dtype) if log_a is None else jnp.exp(log_a.reshape(*log_a.shape[:2], heads, -1))
    writes = k[..., None] * v[..., None, :]
    start = jnp.zeros((batch, *writes.shape[2:]), v.dtype) if state is None else state
    S = recurrence(  # the states before a step and after it
        lambda h, u: jnp.stack([h[:, 1], u[0] * h[:, 1] + u[1]], axis=1),
        (jnp.broadcast_to(a[..., None], (batch, time, *a.shape[2:], 1)), writes),
        jnp.stack([start, start], axis=1),
        reset=reset,
        mask=mask,
    )
    read = S[:, :, 1] if bonus is None else S[:, :, 0] + bonus[..., None] * writes
    return scale * jnp.einsum("bthk,bthkv->bthv", q, read), S[:, -1, 1]


def normalized_linear_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_a: jax.Array | None = None,
    state: tuple[jax.Array, jax.Array] | None = None,
    **options: Any,
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """`linear_attention`, and den_t = scale q_t . n_t with n_t = e^{log_a_t} n_{t-1} + k_t."""
    S, n = (None, None) if state is None else (state[0], state[1][..., None])
    y, S = linear_attention(q, k, v, log_a, S, **options)
    den, n = linear_attention(q, k, jnp.ones_like(v[..., :1]), log_a, n, **options)
    return y, den[..., 0], (S, n[..., 0])


def exponential_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_a: jax.Array,
    log_i: jax.Array,
    state: tuple[jax.Array, jax.Array, jax.Array] | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    **options: Any,
) -> tuple[jax.Array, jax.Array, jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """Keys weigh e^{log_i}; all is divided by e^m, e^{m_t} = max(e^{log_a_t} e^{m_{t-1}}, e^{log_i_t}), a constant."""
    S, n, m = (None, None, None) if state is None else state
    grown = jnp.zeros_like(log_a[:, 0]) if m is None else lax.stop_gradient(jnp.exp(m))
    sums = None if S is None or n is None else (grown[..., None, None] * S, grown[..., None] * n)
    gates = (jnp.exp(log_a), jnp.exp(log_i))
    largest = recurrence(lambda e, u: jnp.maximum(u[0] * e, u[1]), gates, grown, reset=reset, mask=mask)
    largest = lax.stop_gradient(largest)
    weight = jnp.repeat(k, v.shape[2] // k.shape[2], axis=2) * jnp.exp(log_i)[..., None]
    q = jnp.repeat(q, v.shape[2] // q.shape[2], axis=2)
    num, den, (S, n) = normalized_linear_attention(q, weight, v, log_a, sums, reset=reset, mask=mask, **options)
    size = jnp.where(largest > 0, largest, 1)
    m, last = jnp.where(largest > 0, jnp.log(size), -1e30), size[:, -1]
    return num / size[..., None], den / size, m, (S / last[..., None, None], n / last[..., None], m[:, -1])


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
) -> tuple[jax.Array, jax.Array]:
    """S_t = (Diag(e^{log_a_t}) + b_t a_tᵀ) S_{t-1} + k_t v_tᵀ, y_t = scale S_tᵀ q_t."""

    def step(S: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        decay, k, v, a, b = u
        transition = decay[..., None] * jnp.eye(k.shape[-1], dtype=k.dtype) + b[..., None] * a[..., None, :]
        return transition @ S + k[..., None] * v[..., None, :]

    u = (_decay(log_a, k), k, v, a, b)
    return _read_states(step, u, scale * q, state, reset=reset, mask=mask)


def delta_rule(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    beta: jax.Array,
    log_a: jax.Array | None = None,
    state: jax.Array | None = None,
    *,
    scale: float = 1.0,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """S_t = (I - β_t k_t k_tᵀ) Diag(e^{log_a_t}) S_{t-1} + β_t k_t v_tᵀ, y_t = scale S_tᵀ q_t."""
    q, k = (jnp.repeat(x, v.shape[2] // x.shape[2], axis=2) for x in (q, k))

    def step(S: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
        decay, k, v, beta = u
        S = decay[..., None] * S
        return S + k[..., None] * (beta[..., None] * (v - (k[..., None, :] @ S)[..., 0, :]))[..., None, :]

    return _read_states(step, (_decay(log_a, k), k, v, beta), scale * q, state, reset=reset, mask=mask)


def _decay(log_a: jax.Array | None, k: jax.Array) -> jax.Array:
    if log_a is None:
        return jnp.ones_like(k)
    return jnp.exp(jnp.broadcast_to(log_a if log_a.ndim == 4 else log_a[..., None], k.shape))


def _read_states(
    step: Callable[[jax.Array, Any], jax.Array], u: Any, q: jax.Array, state: jax.Array | None, **flags: Any
) -> tuple[jax.Array, jax.Array]:
    """y_t = S_tᵀ q_t, and the last S, from zero if `state` is None."""
    start = jnp.zeros((*q[:, 0].shape, u[2].shape[-1]), q.dtype) if state is None else state
    S = recurrence(step, u, start, **flags)
    return jnp.einsum("bthkv,bthk->bthv", S, q), S[:, -1]


def _like(flag: jax.Array, h: jax.Array) -> jax.Array:
    return flag.reshape(flag.shape + (1,) * (h.ndim - flag.ndim))
