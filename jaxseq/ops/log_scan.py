"""The linear recurrence of positive quantities, on their logarithms: nothing in it over- or underflows."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxseq.ops.affine import masked_input
from jaxseq.ops.affine_methods import associative, sequential
from jaxseq.ops.algebra import FLOOR, LOGARITHMS, previous
from jaxseq.ops.checks import accumulation_dtype, check_bool, check_decay, check_real, check_shapes
from jaxseq.ops.choice import dispatch
from jaxseq.ops.linear_scan import linear_scan


def log_linear_scan(
    log_a: jax.Array,
    log_b: jax.Array,
    log_h0: jax.Array | None = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    method: str = "auto",
) -> jax.Array:
    """log h_t of h_t = a_t h_{t-1} + b_t, from the logarithms of a, b and h0.

    Source: Feng et al. 2024, "Were RNNs all we needed?", appendix B, whose parallel form is Heinsen 2023, "Efficient
    parallelization of a ubiquitous sequential computation". Heinsen's difference of cumulative sums is not offered:
    in float32 it has lost three digits at T = 512 and five at T = 32768. The scan of
    (la, lb), (la', lb') -> (la + la', logaddexp(lb + la', lb')) loses none.

    Args:
      log_a: log decay, broadcastable to log_b (size 1 in any axis), float32 or wider.
      log_b: log input (B, T, ...), any float dtype.
      log_h0: log of the state before the first step (B, ...); the logarithm of zero if None.
      reset: (B, T) bool, True where the state before the step is zero.
      mask: (B, T) bool, False at padding: the step leaves the state as it is (but for a reset there, which applies).
      method: "sequential" (one in-place pass), "associative" (log-depth), or "auto".

    Returns:
      log h (B, T, ...) in log_b's dtype; sums are carried in float32 or wider. The logarithm of zero is -1e30, in the
      result and for any input below it (-inf too), and every derivative there is finite.

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input, a half-precision log_a, an unknown method.
    """
    log_a, log_b = jnp.asarray(log_a), jnp.asarray(log_b)
    _check(log_a, log_b, log_h0, reset, mask)
    dtype = accumulation_dtype(log_a, log_b, log_h0)
    log_h0 = jnp.full(log_b.shape[:1] + log_b.shape[2:], FLOOR, dtype) if log_h0 is None else log_h0
    floored = (jnp.where(x < FLOOR, FLOOR, x).astype(dtype) for x in (log_a, log_b, log_h0))
    return _states(method, *floored, reset, mask).astype(log_b.dtype)


def prefix_logsumexp(
    s: jax.Array, z0: jax.Array | None = None, *, reset: jax.Array | None = None, mask: jax.Array | None = None
) -> jax.Array:
    """z_t = log(e^z0 + sum over j <= t of e^{s_j}), over the valid tokens of one document.

    Args:
      s: scores (B, T, ...), any float dtype.
      z0: what came before (B, ...); nothing, -1e30, if None.
      reset: (B, T) bool, True where a document starts.
      mask: (B, T) bool, False at padding: such a token does not count.

    Returns:
      z (B, T, ...) in s's dtype, -1e30 where nothing has been counted. The state is z[:, -1].

    Raises:
      ValueError: wrong ranks or shapes, integer or complex input.
    """
    s = jnp.asarray(s)
    check_real(s=s)
    return log_linear_scan(jnp.zeros((1,) * s.ndim, accumulation_dtype(s)), s, z0, reset=reset, mask=mask)


def _check(log_a, log_b, log_h0, reset, mask):
    check_real(log_a=log_a, log_b=log_b, log_h0=log_h0)
    check_bool(reset=reset, mask=mask)
    check_shapes(log_b=(log_b, "B T ..."), reset=(reset, "B T"), mask=(mask, "B T"))
    check_decay(log_a=log_a)
    shape = log_b.shape
    if shape[1] < 1:
        raise ValueError(f"log_b must have at least one time step, got shape {shape}")
    if log_a.ndim != log_b.ndim or any(m not in (1, n) for m, n in zip(log_a.shape, shape, strict=True)):
        raise ValueError(f"log_a must broadcast to log_b of shape {shape} axis by axis, got shape {log_a.shape}")
    if log_h0 is not None and log_h0.shape != shape[:1] + shape[2:]:
        raise ValueError(f"log_h0 must have shape {shape[:1] + shape[2:]} (log_b without time), got {log_h0.shape}")


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _states(method, log_a, log_b, log_h0, reset, mask):
    methods = {f.__name__: partial(f, LOGARITHMS, reverse=False) for f in (sequential, associative)}
    run = dispatch("log_linear_scan", method, methods, log_b.shape, differentiated=False)
    return run(log_a, masked_input(LOGARITHMS, log_b, mask), log_h0, reset, mask)


@partial(_states.defjvp, symbolic_zeros=True)
def _tangent(method, primals, tangents):
    """A tangent is averaged: d log h_t = p_t (d log a_t + d log h_{t-1}) + (1 - p_t) d log b_t."""
    log_a, log_b, log_h0, reset, mask = primals
    dlog_a, dlog_b, dlog_h0 = (None if isinstance(x, SymbolicZero) else x for x in tangents[:3])
    log_h = _states(method, *primals)
    kept = log_a + previous(log_h, log_h0, reset, zero=FLOOR)
    p, q = jax.nn.sigmoid(kept - log_b), jax.nn.sigmoid(log_b - kept)
    driven = [x * dx for x, dx in ((p, dlog_a), (q, dlog_b)) if dx is not None]
    moved = {"b": sum(driven, start=jnp.zeros_like(log_h))} if driven else {}
    moved |= {} if dlog_h0 is None else {"h0": dlog_h0}
    still = {"b": jnp.zeros_like(log_h), "h0": jnp.zeros_like(log_h0)}
    # As a derivative, not as a value: what is linear here must have a transpose, and a scan has it as its derivative's.
    scan = lambda moving: linear_scan(p, **{**still, **moving}, reset=reset, mask=mask, method=method)  # noqa: E731
    return log_h, jax.jvp(scan, ({name: still[name] for name in moved},), (moved,))[1]
