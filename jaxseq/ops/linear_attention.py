"""S_t = e^{log_a_t} S_{t-1} + k_t v_tᵀ, y_t = S_tᵀ q_t: the recurrence of every linear attention, in chunks.

Inside a chunk whose state before it is S, with c_t = Σ_{i<=t} log_a_i from the chunk's start (Yang et al. 2023, "Gated
Linear Attention", section 4; Dao and Gu 2024, "Transformers are SSMs", section 6):

    y_t = Sᵀ (e^{c_t} q_t) + Σ_{j<=t} (Σ_k q_tk k_jk e^{c_tk - c_jk}) v_j
    S'  = e^{c_C} S + Σ_j (e^{c_C - c_j} k_j) v_jᵀ

so time is matmuls inside the chunks and one linear scan over their states. Chunks are (M, B, G, R, C, ...): M chunks,
G heads of q and k, each for R heads of v. Flags select and never multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import over_time, previous
from jaxseq.ops.checks import (
    accumulation_dtype,
    check_bool,
    check_decay,
    check_positive,
    check_real,
    check_shapes,
)
from jaxseq.ops.choice import dispatch
from jaxseq.ops.chunks import documents, grouped, heads, join, split
from jaxseq.ops.decay import broken_decays, decay_from_start, decay_to_end, decayed_scores, finite_decays, pairs
from jaxseq.ops.linear_scan import linear_scan


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
        "sequential" (one step at a time), or "auto", the fastest one measured on the platform.

    Returns:
      y (B, T, H, V) in v's dtype, unspecified but finite at padding, and the state after the last step (B, H, K, V),
      float32 or wider as all sums are. A value that is not finite makes all of its head's y not finite from its step
      to the end of its document, at most.

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input, a half-precision log_a, no time step, an unknown
        method, a chunk below 1.
    """
    check(q, k, v, log_a, reset, mask, chunk)
    check_real(state=state, bonus=bonus)
    check_shapes(q=(q, "B T G K"), v=(v, "B T H V"), state=(state, "B H K V"), bonus=(bonus, "H K"))
    dtype = accumulation_dtype(q, k, v, log_a, state, bonus)
    shape = (v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    start = jnp.zeros(shape, dtype) if state is None else state.astype(dtype)
    u, log_a = (None if x is None else x.astype(dtype) for x in (bonus, log_a))
    log_a = log_a[..., None] if log_a is not None and log_a.ndim == 3 else log_a
    run = dispatch("linear_attention", method, _methods(chunk), (*v.shape, q.shape[3]))
    inputs = (scale * _where(mask, q.astype(dtype)), *(_where(mask, x.astype(dtype)) for x in (k, v)))
    y, last = run(*inputs, log_a, start, u, reset, mask)
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
    k, v = (_where(mask, x.astype(dtype)) for x in (k, v))
    keys, values = (grouped(jnp.swapaxes(x, 1, 2), k.shape[2]) for x in (k, v))
    S = _write(keys, values)
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


def _methods(chunk):
    runs = {"chunked": _chunked, "associative": _associative, "sequential": _sequential}
    return {name: partial(run, chunk=chunk) for name, run in runs.items()}


def _chunked(q, k, v, log_a, state, bonus, reset, mask, *, chunk):
    """One chunk after the other; the backward pass makes what is in a chunk again from the state before it."""
    xs, bonus = _chunks(q, k, v, log_a, bonus, reset, mask, chunk)
    # A decay that is the same in every chunk is not scanned over.
    constant = log_a is not None and xs["log_a"].shape[0] < xs["v"].shape[0]
    shared = xs.pop("log_a")[0] if constant else None

    def body(S, x):
        x = {"log_a": shared, **x}
        inside, written, decay = _within(x, bonus)
        kept = S if reset is None else jnp.where(_cut(x)[..., None, None], 0, S)
        return decay * kept + written, inside + _carried(x, S, bonus is not None)

    last, y = lax.scan(jax.checkpoint(body), grouped(state, q.shape[2]), xs)
    return join(y, v.shape[1]), heads(last)


def _associative(q, k, v, log_a, state, bonus, reset, mask, *, chunk):
    """All chunks side by side."""
    x, bonus = _chunks(q, k, v, log_a, bonus, reset, mask, chunk)
    # What a chunk's matmuls were made of is made again in the backward pass: kept are the inputs and the states.
    inside, written, decay = jax.checkpoint(_within)(x, bonus)
    cut = None if reset is None else _cut(x)[..., 0, 0].T
    decay, written, start = jnp.swapaxes(decay, 0, 1), jnp.swapaxes(written, 0, 1), grouped(state, q.shape[2])
    after = linear_scan(decay, written, start, reset=cut, method="associative")
    before = jnp.swapaxes(previous(after, start, None), 0, 1)
    y = inside + jax.checkpoint(partial(_carried, exclusive=bonus is not None))(x, before)
    return join(y, v.shape[1]), heads(after[:, -1])


def _within(x, bonus):
    """What a chunk reads of its own writes, what it writes, and its decay; x as of `_chunks`, with or without M."""
    q, k, v, document, strict = x["q"], x["k"], x["v"], x["document"], bonus is not None
    log_a = finite_decays(x["log_a"])
    scores = decayed_scores((q,), (k,), log_a, document, strict=(strict,))[..., 0, :, 0, :]
    if bonus is not None:
        scores = scores + jnp.eye(q.shape[-2], dtype=q.dtype) * jnp.sum(q * bonus * k, axis=-1)[..., None]
    ending = None if document is None else document == document[..., -1:]
    keys = k if log_a is None else k * decay_to_end(log_a)
    written = _write(_where(ending, keys), _where(ending, v))
    y = _read(scores, v, pairs(q.shape[-2], document))
    if log_a is not None:
        y = y * broken_decays(x["log_a"], document, strict=strict)
        written = written * broken_decays(x["log_a"], document)[..., -1:, :]
    return y, written, _decay(x)


def _read(scores, v, wanted):
    """Σ_j scores[t, j] v_j, where a v that is not finite must not reach the steps that do not see it through 0 v_j."""
    finite = jnp.isfinite(v)
    broken = ~jnp.all(finite, axis=-1)
    reached = jnp.any(wanted & broken[..., None, :], axis=-1, keepdims=True)
    y = jnp.matmul(scores, jnp.where(finite, v, 0), precision=lax.Precision.HIGHEST)
    return y * jnp.where(reached, jnp.nan, 1).astype(v.dtype)


def _write(k, v):
    """Σ_j k_j v_jᵀ (..., K, V)."""
    return jnp.matmul(jnp.swapaxes(k, -1, -2), v, precision=lax.Precision.HIGHEST)


def _decay(x):
    """What is left of the state before a chunk at its end (..., K, 1); anything where a reset cuts the chunk."""
    if x["log_a"] is None:
        return jnp.ones((1,) * x["v"].ndim, x["v"].dtype)
    total = jnp.sum(x["log_a"], axis=-2)
    return jnp.exp(total if x["document"] is None else jnp.where(_cut(x)[..., None], 0, total))[..., None]


def _cut(x):
    """(..., 1, 1) bool: a document starts in the chunk."""
    return x["document"][..., -1] != x["before"]


def _carried(x, state, exclusive):
    """What the steps of a chunk read of the state before it, zero from the first reset on."""
    log_a = finite_decays(x["log_a"])
    q = x["q"] if log_a is None else x["q"] * decay_from_start(log_a, exclusive=exclusive)
    y = jnp.matmul(q, state, precision=lax.Precision.HIGHEST)
    return y if x["document"] is None else _where(x["document"] == x["before"][..., None], y)


def _sequential(q, k, v, log_a, state, bonus, reset, mask, *, chunk):
    """One step at a time; the backward pass makes the states of a chunk again from the one before it."""
    time, groups, size = v.shape[1], q.shape[2], min(chunk, v.shape[1])
    mask = jnp.ones(v.shape[:2], bool) if mask is None and time % size else mask
    a = jnp.ones((1, 1, v.shape[2], 1), v.dtype) if log_a is None else jnp.exp(log_a)
    arrays = {"q": q, "k": k, "v": v, "a": a if a.shape[1] == time else None}
    xs = jax.tree.map(lambda x: split(x, groups, size), arrays)
    xs |= jax.tree.map(lambda x: split(x, 1, size), {"reset": reset, "mask": mask})
    xs = jax.tree.map(lambda x: jnp.moveaxis(x, 4, 1), xs)
    step = partial(_step, grouped(a[:, 0], groups), None if bonus is None else grouped(bonus[None], groups)[0])
    last, y = lax.scan(jax.checkpoint(lambda S, x: lax.scan(step, S, x)), grouped(state, groups), xs)
    return join(jnp.moveaxis(y, 1, 4), v.shape[1]), heads(last)


def _step(a, bonus, S, x):
    """The state (B, G, R, K, V) after a step, and what the step reads; a is the decay of steps that have none."""
    before = S if x["reset"] is None else jnp.where(x["reset"][..., None], 0, S)
    S = (a if x["a"] is None else x["a"])[..., None] * before + x["k"][..., None] * x["v"][..., None, :]
    S = S if x["mask"] is None else jnp.where(x["mask"][..., None], S, before)
    read = jnp.matmul(x["q"][..., None, :], S if bonus is None else before, precision=lax.Precision.HIGHEST)[..., 0, :]
    return S, read if bonus is None else read + jnp.sum(x["q"] * bonus * x["k"], axis=-1, keepdims=True) * x["v"]


def _chunks(q, k, v, log_a, bonus, reset, mask, chunk):
    """The arrays by name in chunks (M, B, G, R, C, ...), and the bonus (G, R, 1, K)."""
    time, groups, size = v.shape[1], q.shape[2], min(chunk, v.shape[1])
    document, before = documents(reset, size)
    if log_a is not None:
        # If no step differs from another, one chunk stands for all of them. Padding does not decay.
        steps = size if log_a.shape[1] == 1 and mask is None and time % size == 0 else time
        log_a = _where(mask, jnp.broadcast_to(log_a, (log_a.shape[0], steps, *log_a.shape[2:])))
    arrays = jax.tree.map(lambda x: split(x, groups, size), {"q": q, "k": k, "v": v, "log_a": log_a})
    bonus = None if bonus is None else bonus.reshape(groups, -1, 1, bonus.shape[-1])
    return {**arrays, "document": document, "before": before}, bonus


def _where(flag, x):
    """x (B, T, ...), zero where the flag is False."""
    return x if flag is None else jnp.where(over_time(flag, x), x, 0)
