"""The delta rule S_t = (I - β_t k_t k_tᵀ) Diag(e^{log_a_t}) S_{t-1} + β_t k_t v_tᵀ, and RWKV-7's form of it.

What a step writes at k_t is u_t = β_t (v_t - what the decayed state reads at k_t). So inside a chunk whose state
before it is S, with c_t = Σ_{i<=t} log_a_i from the chunk's start (Yang et al. 2024, "Parallelizing linear transformers
with the delta rule", section 3.2; with decays Yang et al. 2024, "Gated delta networks", section 3.3),

    u_t = β_t (v_t - Sᵀ (e^{c_t} k_t) - Σ_{j<t} A_kk[t, j] u_j),    A_xy[t, j] = Σ_κ x_tκ y_jκ e^{c_tκ - c_jκ}

which is a chunk of `dplr.py` with a_t = e^{log_a_t} k_t, b_t = -β_t k_t and writes β_t k_t v_tᵀ, for about half the
matmuls because all of these are parallel to k_t.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.checks import accumulation_dtype, check_shapes
from jaxseq.ops.decay import decayed_scores
from jaxseq.ops.dplr import dplr_attention
from jaxseq.ops.fused_attention import apply_scale, make_call
from jaxseq.ops.fused_delta import Parts, fits, fused
from jaxseq.ops.matrix_state import attend, check, from_start, outer, product, read_state, scaled, to_end, write
from jaxseq.ops.triangular import unit_lower_solve


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
    chunk: int = 32,
    method: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """y_t = scale S_tᵀ q_t with S_t = (I - β_t k_t k_tᵀ) Diag(e^{log_a_t}) S_{t-1} + β_t k_t v_tᵀ.

    Without log_a DeltaNet (Yang et al. 2024, "Parallelizing linear transformers with the delta rule", equation 2), with
    one per head Gated DeltaNet (Yang et al. 2024, "Gated delta networks", equation 10), with one per key channel Kimi
    Delta Attention (Kimi Team 2025, "Kimi Linear", equation 1); states there are transposed in the first two. The state
    stays bounded for ||k_t|| = 1, β_t in [0, 2] and log_a <= 0: the caller's to see to (`norm.l2_norm`).

    Args:
      q: queries (B, T, G, K), any float dtype. G divides H: head h reads with q, k of head h // (H / G).
      k: keys (B, T, G, K).
      v: values (B, T, H, V).
      beta: how much of the old value is replaced (B, T, H).
      log_a: logarithm of the decays, finite, one per head (B, T, H) or one per key channel (B, T, H, K), float32 or
        wider; no decay if None.
      state, scale, reset, mask, chunk: as in `dplr_attention`.
      method: as in `dplr_attention`, or "kernel" (one fused pass on TPU; float32 sums, at most one decay per head,
        reverse-mode derivatives only); "auto" has the kernel's derivatives where it may take that.

    Returns:
      y (B, T, H, V) in v's dtype and the state after the last step (B, H, K, V), as in `dplr_attention`.

    Raises:
      ValueError: as in `dplr_attention`, heads of q that do not divide those of v, or a kernel where there is none or
        that does not take these arrays.
    """
    sizes = check_shapes(q=(q, "B T G K"), v=(v, "B T H V"))
    check_shapes(q=(q, "B T G K"), k=(k, "B T G K"))
    check_shapes(v=(v, "B T H V"), beta=(beta, "B T H"))
    if sizes["G"] < 1 or sizes["H"] % sizes["G"]:
        raise ValueError(f"the heads of q must divide those of v, got {sizes['G']} and {sizes['H']}")
    check(q, k, v, state, log_a, reset, mask, chunk, beta=beta)
    dtype = accumulation_dtype(q, k, v, beta, log_a, state)
    if fits(method, dtype, log_a):
        scale, q = apply_scale(scale, q.astype(dtype))
        tokens = q, k.astype(dtype), v.astype(dtype), beta.astype(dtype)
        size = (v.shape[0], v.shape[2], q.shape[3], v.shape[3])
        start = jnp.zeros(size, dtype) if state is None else state.astype(dtype)
        y, last = fused(make_call(method, chunk, scale, v), Parts(_within, _step), *tokens, log_a, start, reset, mask)
        return y.astype(v.dtype), last
    tokens = {"q": q * scale, "k": k, "v": v, "beta": beta[..., None]}
    return attend("delta_rule", _within, _step, tokens, log_a, state, reset, mask, chunk, method)


def rwkv7_attention(
    r: jax.Array,
    log_w: jax.Array,
    k: jax.Array,
    v: jax.Array,
    kk: jax.Array,
    eta: jax.Array,
    state: jax.Array | None = None,
    *,
    scale: float = 1.0,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    chunk: int = 32,
    method: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """y_t = scale S_tᵀ r_t with S_t = (Diag(w_t) - (kk_t ⊙ η_t) kk_tᵀ) S_{t-1} + k_t v_tᵀ.

    Peng et al. 2025, "RWKV-7", equations 16 and 17, whose states are (value, key): ours transposed; its a is our eta.

    Args:
      r: receptances (B, T, H, K), any float dtype.
      log_w: logarithm of the decays (B, T, H, K), finite, float32 or wider.
      k: replacement keys (B, T, H, K).
      v: values (B, T, H, V).
      kk: removal keys of length 1 (B, T, H, K) (`norm.unit_norm`).
      eta: in-context learning rates in (0, 1) (B, T, H, K).
      state, scale, reset, mask, chunk, method: as in `dplr_attention`.

    Returns:
      y (B, T, H, V) in v's dtype and the state after the last step (B, H, K, V), as in `dplr_attention`.

    Raises:
      ValueError: as in `dplr_attention`.
    """
    key = "B T H K"
    check_shapes(r=(r, key), log_w=(log_w, key), k=(k, key), kk=(kk, key), eta=(eta, key))
    options = {"scale": scale, "reset": reset, "mask": mask, "chunk": chunk, "method": method}
    b = kk.astype(accumulation_dtype(kk, eta)) * eta  # in half precision its errors would add up in the state
    return dplr_attention(r, k, v, -kk, b, log_w, state, **options)


def _within(read, q, k, v, beta, log_a, document):
    """What a chunk does. The solve reads of its scores what is below the diagonal."""
    scores = decayed_scores((q, k), (k,), log_a, document)
    of_q, of_k = scores[..., 0, :, 0, :], scores[..., 1, :, 0, :]
    u = unit_lower_solve(-beta * of_k, beta * (v - read(from_start(k, log_a))))
    return read(from_start(q, log_a)) + product(of_q, u), write(to_end(k, log_a, document), u)


def _step(S, q, k, v, beta, log_a):
    """S_t from S_{t-1}, and y_t. (Diag(e^a) S)ᵀ k = Sᵀ (e^a ⊙ k): no decayed state is made only to be read."""
    left = 1 if log_a is None else jnp.exp(log_a)
    u = beta * (v - read_state(left * k, S))
    return scaled(S, log_a) + outer(k, u), read_state(left * q, S) + jnp.sum(q * k, axis=-1, keepdims=True) * u
