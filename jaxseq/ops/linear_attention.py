"""S_t = e^{log_a_t} S_{t-1} + k_t v_tᵀ, y_t = S_tᵀ q_t: the recurrence of every linear attention, in chunks.

Inside a chunk whose state before it is S, with c_t = Σ_{i<=t} log_a_i from the chunk's start (Yang et al. 2023, "Gated
Linear Attention", section 4; Dao and Gu 2024, "Transformers are SSMs", section 6):

    y_t = Sᵀ (e^{c_t} q_t) + Σ_{j<=t} (Σ_k q_tk k_jk e^{c_tk - c_jk}) v_j
    S'  = e^{c_C} S + Σ_j (e^{c_C - c_j} k_j) v_jᵀ

so time is matmuls inside the chunks and one linear scan over their states.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.attention_methods import METHODS, prepared, select, write
from jaxseq.ops.checks import (
    accumulation_dtype,
    check_bool,
    check_decay,
    check_positive,
    check_real,
    check_shapes,
)
from jaxseq.ops.choice import dispatch
from jaxseq.ops.chunks import grouped, heads
from jaxseq.ops.fused_attention import apply_scale, attend, fits, make_call


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
    chunk: int = 64,
    method: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """y_t = scale S_tᵀ q_t with S_t = e^{log_a_t} S_{t-1} + k_t v_tᵀ.

    Args:
      q: queries (B, T, G, K), any float dtype. G divides H: head h reads with q, k of head h // (H / G).
      k: keys (B, T, G, K).
      v: values (B, T, H, V).
      log_a: logarithm of the decays, one per head (B, T, H) or one per key channel (B, T, H, K), with size 1 in B or T
        if it does not depend on them; float32 or wider, at most 0 if the state is not to grow; no decay if None.
      state: S before the first step (B, H, K, V); zero if None. (Mamba's and RWKV's papers write its transpose.)
      bonus: u (H, K): y_t = scale (S_{t-1} + diag(u) k_t v_tᵀ)ᵀ q_t instead (Peng et al. 2024, "Eagle and Finch").
      scale: a number.
      reset: (B, T) bool, True where the state before the step is zero.
      mask: (B, T) bool, False at padding: the step leaves the state as it is, but for a reset there.
      chunk: steps of a chunk; the backward pass keeps one state per chunk.
      method: "chunked" (a sequential scan over the chunks' states), "associative" (the same with an associative scan),
        "sequential" (one step at a time), "kernel" (one fused pass on TPU; float32 sums,
        at most one decay per head, no bonus; reverse-mode derivatives only), or "auto", see `explain`: it has the
        kernel's derivatives where it may take that.

    Returns:
      y (B, T, H, V) in v's dtype, unspecified but finite at padding, and the state after the last step (B, H, K, V),
      float32 or wider as all sums are. A value that is not finite makes all of its head's y not finite from its step
      to the end of its document, at most.

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input, a half-precision log_a, no time step, an unknown
        method, a chunk below 1, a kernel where there is none or that does not take these arrays.
    """
    check(q, k, v, log_a, reset, mask, chunk)
    check_real(state=state, bonus=bonus)
    check_shapes(q=(q, "B T G K"), v=(v, "B T H V"), state=(state, "B H K V"), bonus=(bonus, "H K"))
    dtype = accumulation_dtype(q, k, v, log_a, state, bonus)
    shape = (v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    start = jnp.zeros(shape, dtype) if state is None else state.astype(dtype)
    u, log_a = (None if x is None else x.astype(dtype) for x in (bonus, log_a))
    log_a = log_a[..., None] if log_a is not None and log_a.ndim == 3 else log_a
    tokens = q.astype(dtype), k.astype(dtype), v.astype(dtype)
    if fits(method, dtype, log_a, u):
        scale, q = apply_scale(scale, tokens[0])
        y, last = attend(make_call(method, chunk, scale, v), q, *tokens[1:], log_a, start, reset, mask)
        return y.astype(v.dtype), last
    run = dispatch("linear_attention", method, METHODS, (*v.shape, q.shape[3]))
    y, last, _ = run(*prepared(scale, mask, *tokens), log_a, start, u, reset, mask, chunk=chunk)
    return y.astype(v.dtype), last


def normalized_linear_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    log_a: jax.Array | None = None,
    state: tuple[jax.Array, jax.Array] | None = None,
    *,
    scale: float = 1.0,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    chunk: int = 64,
    method: str = "auto",
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """`linear_attention` and its normaliser: n_t = e^{log_a_t} n_{t-1} + k_t, den_t = scale q_t . n_t.

    The caller divides y by den, or by what its paper makes of it (Katharopoulos et al. 2020, equation 9).

    Args:
      state: (S, n) before the first step, (B, H, K, V) and (B, H, K); zeros if None.
      q, k, v, log_a, scale, reset, mask, chunk, method: as in `linear_attention`.

    Returns:
      y (B, T, H, V) in v's dtype, den (B, T, H), and the state (S, n), these three float32 or wider.

    Raises:
      ValueError: as in `linear_attention`.
    """
    check(q, k, v, log_a, reset, mask, chunk)
    S, n = (None, None) if state is None else state
    check_real(S=S, n=n)
    check_shapes(q=(q, "B T G K"), v=(v, "B T H V"), S=(S, "B H K V"), n=(n, "B H K"))
    dtype = accumulation_dtype(q, k, v, log_a, S, n)
    values = jnp.concatenate([v.astype(dtype), jnp.ones((*v.shape[:-1], 1), dtype)], axis=-1)
    both = None if S is None or n is None else jnp.concatenate([S, n[..., None]], axis=-1)
    y, last = linear_attention(
        q, k, values, log_a, both, scale=scale, reset=reset, mask=mask, chunk=chunk, method=method
    )
    return y[..., :-1].astype(v.dtype), y[..., -1], (last[..., :-1], last[..., -1])


def prefix_state(k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """The state of a prefix that every later step sees whole: S = Σ_t k_t v_tᵀ, n = Σ_t k_t.

    Args:
      k: keys (B, T, G, K), v: values (B, T, H, V), any float dtype, grouped as in `linear_attention`.
      mask: (B, T) bool, False at padding, which does not count.

    Returns:
      S (B, H, K, V) and n (B, H, K), float32 or wider: a state for `normalized_linear_attention` (Arora et al. 2024,
      "Just read twice", prefix linear attention).

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input.
    """
    check(k, k, v, None, None, mask, 1)
    dtype = accumulation_dtype(k, v)
    k, v = (select(mask, x.astype(dtype)) for x in (k, v))
    keys, values = (grouped(jnp.swapaxes(x, 1, 2), k.shape[2]) for x in (k, v))
    S = write(keys, values)
    n = jnp.broadcast_to(jnp.sum(keys, axis=-2), S.shape[:-1])
    return heads(S), heads(n)


def check(q, k, v, log_a, reset, mask, chunk):
    """Raises ValueError for what no linear attention takes."""
    check_real(q=q, k=k, v=v, log_a=log_a)
    check_bool(reset=reset, mask=mask)
    axes = check_shapes(q=(q, "B T G K"), k=(k, "B T G K"), v=(v, "B T H V"), reset=(reset, "B T"), mask=(mask, "B T"))
    check_positive(chunk=chunk)
    if axes["T"] < 1:
        raise ValueError(f"v must have at least one time step, got shape {v.shape}")
    if axes["G"] < 1 or axes["H"] % axes["G"]:
        raise ValueError(f"the heads of q must divide those of v, got {axes['G']} and {axes['H']}")
    if log_a is not None:
        check_decay(log_a=log_a)
        _check_decay_shape(log_a, (*v.shape[:3], q.shape[3]))


def _check_decay_shape(log_a, shape):
    fits = log_a.ndim in (3, 4) and log_a.shape[2:] == shape[2 : log_a.ndim]
    if not fits or any(m not in (1, n) for m, n in zip(log_a.shape[:2], shape, strict=False)):
        raise ValueError(f"log_a must have shape {shape} or {shape[:3]}, or 1 in B or T there, got {log_a.shape}")
