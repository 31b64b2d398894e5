"""y_t = S_tᵀ q_t for a state S (B, H, K, V) that every step changes by an affine map: its chunks and their scan.

What a chunk does is its op's to say (`dplr.py`, `delta_rule.py`) as a function of `read`, x -> Sᵀ x of the state before
the chunk: y, and what the chunk writes, S' = decay S + written. One chunk after the other reads a state that is there
and stays in the cache. Side by side they read of every state at once: the columns of S do not mix, so with [0 I] for S
and [v 0] for v, a chunk gives its affine map. Chunks are (M, B, G, R, C, ...) as in `chunks.py`. Flags select and never
multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

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
from jaxseq.ops.chunks import documents, grouped, heads, join, split
from jaxseq.ops.decay import decay_from_start, decay_to_end, pairs

product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def transposed(x):
    return jnp.swapaxes(x, -1, -2)


def _identity(x):
    return jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


MATRIX = Algebra(product, product, product, _identity, transposed)  # S -> A S


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
    """y and the final state of tokens (B, T, H or G, ...): `within` treats chunks, `step` is (S, token) -> (S, y)."""
    v, groups = tokens["v"], tokens["q"].shape[2]
    dtype = accumulation_dtype(*tokens.values(), log_a, state)
    size = (v.shape[0], v.shape[2], tokens["q"].shape[3], v.shape[3])
    state = jnp.zeros(size, dtype) if state is None else state.astype(dtype)
    x = {name: _where(mask, y).astype(dtype) for name, y in tokens.items()}
    if log_a is not None:
        x["log_a"] = _where(mask, log_a if log_a.ndim == 4 else log_a[..., None]).astype(dtype)
    ways = {name: partial(way, chunk=chunk) for name, way in methods(within, step).items()}
    y, state, _ = dispatch(op, method, ways, (*v.shape, size[2]))(x, grouped(state, groups), reset)
    return y.astype(v.dtype), heads(state)


def methods(within, step):
    """By name the ways to run chunks and steps: (x, state, reset, chunk=, keep=) -> y, the last state and, if to `keep`
    them, the states before all chunks (M, B, G, R, K, V), with which `pulled` does without those of the forward pass.
    """
    runs = {"chunked": (_chunked, within), "associative": (_associative, within), "sequential": (_sequential, step)}
    return {name: partial(run, part) for name, (run, part) in runs.items()}


def from_start(x, log_a, *, exclusive=False):
    """x_t with what is left at t of the state before the chunk, resets aside: those are seen to where it is read."""
    return x if log_a is None else x * decay_from_start(log_a, exclusive=exclusive)


def to_end(x, log_a, document):
    """x_t with what the chunk's end has left of a write at t, zero if another document ends it."""
    x = x if log_a is None else x * decay_to_end(log_a)
    return x if document is None else jnp.where((document == document[..., -1:])[..., None], x, 0)


def read_state(q, S):
    """Sᵀ q (B, H, V)."""
    return product(q[..., None, :], S)[..., 0, :]


def write(k, w):
    """Σ_t k_t w_tᵀ (..., K, V); as a product with kᵀ, XLA for CPU makes k once more, transposed and slowly."""
    return jnp.einsum("...ck,...cv->...kv", k, w, precision=lax.Precision.HIGHEST)


def outer(k, v):
    """k vᵀ (..., K, V), by a product, so that its derivatives are products: XLA for CPU sums slowly over rows."""
    return jnp.einsum("...k,...v->...kv", k, v, precision=lax.Precision.HIGHEST)


def scaled(S, log_a):
    """Diag(e^{log_a}) S, in which e^{log_a} is spread by a product for the reason in `outer`."""
    if log_a is None:
        return S
    column = jnp.broadcast_to(jnp.exp(log_a), S.shape[:-1])[..., None]
    return product(column, jnp.ones((*S.shape[:-2], 1, S.shape[-1]), S.dtype)) * S


def _chunked(within, x, state, reset, *, chunk, keep=False):
    """One chunk after the other; the backward pass makes what is in a chunk again from the state before it."""

    def body(S, x):
        after, y = _advance(within, x, S)
        return after, (y, S if keep else None)

    last, (y, before) = lax.scan(jax.checkpoint(body), state, _chunks(x, reset, chunk))
    return join(y, x["v"].shape[1]), last, before


def pulled(within, x, before, reset, g, last, *, chunk):
    """The cotangents of x and the state, one chunk after the other, given the states `before` all of them and the
    cotangents g of y and `last` of the last state.
    """

    def apart(x):
        found = _chunks(x, reset, chunk)
        rest = {name: found.pop(name) for name in ("document", "before")}
        return found, rest

    arrays, pull_chunks, rest = jax.vjp(apart, x, has_aux=True)

    def body(R, x):
        arrays, rest, S, g = x
        _, pull = jax.vjp(lambda arrays, S: _advance(within, arrays | rest, S), arrays, S)
        cotangents, R = pull((R, g))
        return R, cotangents

    groups, size = x["q"].shape[2], min(chunk, g.shape[1])
    first, cotangents = lax.scan(body, last, (arrays, rest, before, split(g, groups, size)), reverse=True)
    return pull_chunks(cotangents)[0], first


def _advance(within, x, S):
    """The state after a chunk, and y of its steps."""
    broken, x = _contain(x)
    bad = ~jnp.all(jnp.isfinite(S), axis=(-2, -1), keepdims=True)
    S = jnp.where(bad, 0, S)
    y, written = within(lambda q: _of_this_document(x, product(q, S)), **_values(x))
    broken = broken | (bad & _of_this_document(x, jnp.ones_like(broken)))
    S = _cut(x, _decay(x, S) * S) + written
    return S * _nan_where(broken[..., -1:, :], S), y * _nan_where(broken, y)


def _associative(within, x, state, reset, *, chunk, keep=False):
    """All chunks side by side, then their states."""
    time, columns = x["v"].shape[1], x["v"].shape[3]
    x = _chunks(x, reset, chunk)
    broken, x = _contain(x)
    # What a chunk's matmuls were made of is made again in the backward pass: kept are the inputs and the states.
    y, after = jax.checkpoint(partial(_as_map, within))(x)
    after = after * _nan_where(broken[..., -1:, :], after)
    total, written = (jnp.swapaxes(z, 0, 1) for z in (after[..., columns:], after[..., :columns]))
    state = state * _nan_where(~jnp.all(jnp.isfinite(state), axis=(-2, -1), keepdims=True), state)
    cut = None if reset is None else (x["document"][..., -1] != x["before"])[..., 0, 0].T
    run = partial(affine_scan, "matrix_scan", "associative", algorithms(chunk), MATRIX)
    states = run(total, written, state, reset=cut, mask=None, reverse=False)
    before = jnp.swapaxes(previous(states, state, None), 0, 1)
    y = y[..., :columns] + _of_this_document(x, product(y[..., columns:], before))
    return join(y * _nan_where(broken, y), time), states[:, -1], before if keep else None


def _as_map(within, x):
    """[inside read] and [written total] of chunks: y = read S + inside and S' = total S + written."""
    values, size = _values(x), x["q"].shape[-1]
    columns = values["v"].shape[-1]
    values["v"] = jnp.pad(values["v"], [(0, 0)] * (values["v"].ndim - 1) + [(0, size)])
    y, written = within(lambda q: jnp.pad(q, [(0, 0)] * (q.ndim - 1) + [(columns, 0)]), **values)
    identity = jnp.eye(size, columns + size, columns, dtype=written.dtype)
    return y, written + _decay(x, identity) * identity


def _sequential(step, x, state, reset, *, chunk, keep=False):
    """One step at a time; the backward pass repeats those of a chunk, and of each keeps the state before it alone."""
    groups, size, time = x["q"].shape[2], min(chunk, x["v"].shape[1]), x["v"].shape[1]

    def body(S, x):
        reset, x = x
        return step(S if reset is None else jnp.where(reset[..., None], 0, S), **x)

    def steps_of_a_chunk(S, x):
        last, y = lax.scan(jax.checkpoint(body), S, x)
        return last, (y, S if keep else None)

    x = {"log_a": None} | {name: jnp.moveaxis(split(y, groups, size), 4, 1) for name, y in x.items()}
    starts = None if reset is None else jnp.moveaxis(split(reset, 1, size), 4, 1)
    last, (y, before) = lax.scan(jax.checkpoint(steps_of_a_chunk), state, (starts, x))
    return join(jnp.moveaxis(y, 1, 4), time), last, before


def _chunks(x: dict[str, Any], reset: jax.Array | None, chunk: int) -> dict[str, Any]:
    """The arrays by name in chunks (M, B, G, R, C, ...), and their documents."""
    groups, size = x["q"].shape[2], min(chunk, x["v"].shape[1])
    document, before = documents(reset, size)
    return {name: split(y, groups, size) for name, y in x.items()} | {"document": document, "before": before}


def _values(x: dict[str, Any]) -> dict[str, Any]:
    """What `within` is told of a chunk."""
    return {"log_a": None} | {name: y for name, y in x.items() if name != "before"}


def _decay(x, S):
    """What is left of the state at the end of a chunk (..., K, 1); anything where a reset cuts it."""
    log_a = x.get("log_a")
    return jnp.ones((), S.dtype) if log_a is None else jnp.exp(jnp.sum(log_a, axis=-2))[..., None]


def _cut(x, S):
    """S, zero where a document starts in the chunk."""
    return S if x["document"] is None else jnp.where((x["document"][..., -1] == x["before"])[..., None, None], S, 0)


def _of_this_document(x, y):
    """y (..., C, V), zero from the first reset on."""
    return y if x["document"] is None else jnp.where((x["document"] == x["before"][..., None])[..., None], y, 0)


def _contain(x: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
    """Which steps come after a value that is not finite in their document (..., C, 1), and all without such values.

    In a product it would reach the other documents of its chunk through zeros. It is put back into the results.
    """
    values = {name: y for name, y in x.items() if name not in ("document", "before")}
    bad = ~reduce(jnp.logical_and, [jnp.all(jnp.isfinite(y), axis=-1) for y in values.values()])
    broken = jnp.any(pairs(bad.shape[-1], x["document"]) & bad[..., None, :], axis=-1, keepdims=True)
    return broken, x | {name: jnp.where(bad[..., None], 0, y) for name, y in values.items()}


def _nan_where(flag, x):
    """NaN where the flag is True, else 1."""
    return jnp.where(flag, jnp.nan, 1).astype(x.dtype)


def _where(mask, x):
    return x if mask is None else jnp.where(over_time(mask, x), x, 0)
