"""y_t = S_tᵀ q_t for a state S (B, H, K, V) that every step changes by an affine map: its chunks and their scan.

What the chunks do is theirs to say (`dplr.py`, `delta_rule.py`): affine in the state before them, y_t = Sᵀ read_t +
inside_t and S' = total S + written. The states are then one affine scan. Chunks are (B, M, H, C, ...): M chunks of C
steps. Flags select and never multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.affine import affine_scan
from jaxseq.ops.affine_methods import algorithms
from jaxseq.ops.algebra import Algebra, over_time, previous
from jaxseq.ops.checks import (
    accumulation_dtype,
    check_bool,
    check_decay,
    check_inexact,
    check_positive,
    check_shapes,
)
from jaxseq.ops.choice import dispatch
from jaxseq.ops.decay import decay_from_start, decay_to_end

product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def transposed(x):
    return jnp.swapaxes(x, -1, -2)


def _identity(x):
    return jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


MATRIX = Algebra(product, product, product, _identity, transposed)  # S -> A S


class Segments(NamedTuple):
    """Where the documents are: their number at every step (B, M, 1, C), and before every chunk (B, M, 1)."""

    document: jax.Array
    before: jax.Array


class Chunk(NamedTuple):
    """What a chunk does, all of it affine in the state before it: y = read S + inside, S' = total S + written."""

    read: jax.Array  # (B, M, H, C, K)
    inside: jax.Array  # (B, M, H, C, V)
    total: jax.Array  # (B, M, H, K, K)
    written: jax.Array  # (B, M, H, K, V)


def affine_map(
    op: Callable[[jax.Array, jax.Array], tuple[Any, jax.Array]], v: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    """What a stretch of time does to the state: (total, written) with S after it = total S + written.

    Args:
      op: (v, state) -> (y, state), a `dplr_attention`, `delta_rule` or `rwkv7_attention` with all else given.
      v: values of the stretch (B, T, H, V).
      size: K.

    Returns:
      total (B, H, K, K), zero if the stretch has a reset (select then: zero times NaN is NaN), written (B, H, K, V).
      The stretches of a sequence in several places compose: total₂ total₁, total₂ written₁ + written₂.
    """
    batch, _, heads, columns = v.shape
    dtype = accumulation_dtype(v)
    start = jnp.broadcast_to(jnp.eye(size, columns + size, columns, dtype=dtype), (batch, heads, size, columns + size))
    # The columns of the state do not mix: those after v's write nothing and start as the identity.
    after = op(jnp.pad(v, ((0, 0), (0, 0), (0, 0), (0, size))), start)[1]
    return after[..., columns:], after[..., :columns]


def check(q, k, v, state, log_a, reset, mask, chunk, **others):
    """Raises ValueError for what no member of the family takes; q, k and v have been found to fit."""
    named = {"q": q, "k": k, "v": v, "state": state, "log_a": log_a, **others}
    check_inexact(**named)
    for name, x in named.items():
        if x is not None and jnp.iscomplexobj(x):
            raise ValueError(f"{name} must be real, got dtype {x.dtype}")
    check_bool(reset=reset, mask=mask)
    check_positive(chunk=chunk)
    if v.shape[1] < 1:
        raise ValueError(f"v must have at least one time step, got shape {v.shape}")
    wanted = (*v.shape[:1], *v.shape[2:3], q.shape[3], v.shape[3])
    if state is not None and state.shape != wanted:
        raise ValueError(f"state must have shape {wanted}, got {state.shape}")
    check_shapes(v=(v, "B T H V"), reset=(reset, "B T"), mask=(mask, "B T"))
    check_decay(log_a=log_a)
    shapes = (v.shape[:3], (*v.shape[:3], q.shape[3]))
    if log_a is not None and log_a.shape not in shapes:
        raise ValueError(f"log_a must have shape {shapes[0]} or {shapes[1]}, got {log_a.shape}")


def attend(op, within, step, tokens, log_a, state, reset, mask, chunk, method):
    """y and the final state of tokens (B, T, H, ...): `within` treats chunks of them, `step` one of them."""
    v = tokens["v"]
    dtype = accumulation_dtype(*tokens.values(), log_a, state)
    size = (v.shape[0], v.shape[2], tokens["q"].shape[3], v.shape[3])
    state = jnp.zeros(size, dtype) if state is None else state.astype(dtype)
    tokens = {name: _where(mask, x).astype(dtype) for name, x in tokens.items()}
    if log_a is not None:
        log_a = _where(mask, log_a if log_a.ndim == 4 else log_a[..., None]).astype(dtype)
    methods = {
        "chunked": partial(_chunked, within, states="sequential", chunk=chunk),
        "associative": partial(_chunked, within, states="associative", chunk=chunk),
        "sequential": partial(_sequential, step, chunk=chunk),
    }
    y, state = dispatch(op, method, methods, (*v.shape, size[2]))(tokens, log_a, state, reset)
    return y.astype(v.dtype), state


def corrected(q, b, scores, w, log_a, segments):
    """What a chunk does that writes b_t w_tᵀ, where w (..., C, K + V) = [u, x] stands for w_t = Sᵀ u_t + x_t."""
    size = q.shape[-1]
    y = product(scores, w)
    after = product(transposed(to_end(b, log_a, segments)), w)
    total = after[..., :size] + decay_over(log_a, q) * jnp.eye(size, dtype=q.dtype)
    return Chunk(from_start(q, log_a) + y[..., :size], y[..., size:], total, after[..., size:])


def from_start(x, log_a, *, exclusive=False):
    """x_t with what is left at t of the state before the chunk, resets aside: those are seen to where it is read."""
    return x if log_a is None else x * decay_from_start(log_a, exclusive=exclusive)


def to_end(x, log_a, segments):
    """x_t with what the chunk's end has left of a write at t, zero if another document ends it."""
    x = x if log_a is None else x * decay_to_end(log_a)
    if segments is None:
        return x
    return jnp.where((segments.document == segments.document[..., -1:])[..., None], x, 0)


def decay_over(log_a, q):
    """The decay of a chunk (B, M, H, 1 or K, 1); anything where a reset cuts it."""
    return jnp.ones((), q.dtype) if log_a is None else jnp.exp(jnp.sum(log_a, axis=-2))[..., None]


def read_state(q, S):
    """Sᵀ q (B, H, V)."""
    return product(q[..., None, :], S)[..., 0, :]


def outer(k, v):
    """k vᵀ (B, H, K, V)."""
    return k[..., :, None] * v[..., None, :]


def _sequential(step, tokens, log_a, state, reset, *, chunk):
    """One step at a time; the backward pass repeats the steps of a chunk from the state before it."""

    def body(S, x):
        q, tokens, log_a, reset = x
        S = step(S if reset is None else jnp.where(over_time(reset, S), 0, S), log_a, **tokens)
        return S, read_state(q, S)

    time = tokens["v"].shape[1]
    size = min(chunk, time)
    others = {name: x for name, x in tokens.items() if name != "q"}
    xs = jax.tree.map(lambda x: jnp.moveaxis(_split(x, size), 0, 2), (tokens["q"], others, log_a, reset))
    state, y = lax.scan(jax.checkpoint(partial(lax.scan, body)), state, xs)
    return jnp.moveaxis(y, 2, 0).reshape(state.shape[0], -1, *y.shape[3:])[:, :time], state


def _chunked(within, tokens, log_a, state, reset, *, states, chunk):
    """All chunks at once, then their states."""
    time = tokens["v"].shape[1]
    size = min(chunk, time)
    broken, tokens, log_a, state = _contain(tokens, log_a, state, reset)
    tokens, log_a = jax.tree.map(lambda x: jnp.swapaxes(_split(x, size), 2, 3), (tokens, log_a))
    segments = _segments(reset, size)
    # What a chunk's matmuls were made of is made again in the backward pass: kept are the inputs and the states.
    done = jax.checkpoint(within)(**tokens, log_a=log_a, segments=segments)
    cut = None if segments is None else segments.document[:, :, 0, -1] != segments.before[..., 0]
    run = partial(affine_scan, "matrix_scan", states, algorithms(chunk), MATRIX)
    after = run(done.total, done.written, state, reset=cut, mask=None, reverse=False)
    carried = product(done.read, previous(after, state, None))
    if segments is not None:
        carried = jnp.where((segments.document == segments.before[..., None])[..., None], carried, 0)
    y = done.inside + carried
    y = jnp.swapaxes(y, 2, 3).reshape(state.shape[0], -1, *y.shape[2:3], y.shape[-1])[:, :time]
    return y * _nan_where(broken, y), after[:, -1] * _nan_where(broken[:, -1, :, None], state)


def _contain(tokens, log_a, state, reset):
    """Which steps come after a value that is not finite in their document (B, T, H, 1), and all without such values.

    In a product it would reach the other documents of its chunk through zeros. It is put back into the results.
    """
    bad = ~jnp.all(jnp.stack([_finite(x, -1) for x in jax.tree.leaves((tokens, log_a))]), axis=0)
    bad_state = ~_finite(state, (-2, -1))
    step = jnp.arange(1, bad.shape[1] + 1)[:, None]
    last = lax.cummax(jnp.where(bad, step, jnp.where(bad_state, 0, -1)[:, None]), axis=1)
    start = 0 if reset is None else lax.cummax(jnp.where(reset[..., None], step, 0), axis=1)
    tokens, log_a = jax.tree.map(lambda x: jnp.where(bad[..., None], 0, x), (tokens, log_a))
    return (last >= start)[..., None], tokens, log_a, jnp.where(bad_state[..., None, None], 0, state)


def _finite(x, axis):
    return jnp.all(jnp.isfinite(x), axis=axis)


def _nan_where(flag, x):
    """NaN where the flag is True, else 1."""
    return jnp.where(flag, jnp.nan, 1).astype(x.dtype)


def _segments(reset, size):
    if reset is None:
        return None
    document = jnp.cumsum(reset, axis=1, dtype=jnp.int32)
    document = jnp.pad(document, ((0, 0), (0, -reset.shape[1] % size)), mode="edge")
    document = document.reshape(reset.shape[0], -1, 1, size)
    last = document[..., -1]
    return Segments(document, jnp.concatenate([jnp.zeros_like(last[:, :1]), last[:, :-1]], axis=1))


def _split(x, size):
    """(B, T, ...) in chunks (B, M, C, ...), filled up with zeros: steps that change nothing."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size)) + ((0, 0),) * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, size, *x.shape[2:])


def _where(mask, x):
    return x if mask is None else jnp.where(over_time(mask, x), x, 0)
