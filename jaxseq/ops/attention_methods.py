"""The ways to run `linear_attention`: its equations for chunks, one after the other or side by side, and for steps.

Chunks are (M, B, G, R, C, ...): M chunks, G heads of q and k, each for R heads of v. What padding holds has been put to
zero, and q scaled. Every way returns y, the last state and, if to `keep` them, the states before all chunks, with which
`pulled` does without those of the forward pass. Flags select and never multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.algebra import over_time, previous
from jaxseq.ops.chunks import documents, grouped, heads, join, split
from jaxseq.ops.decay import broken_decays, decay_from_start, decay_to_end, decayed_scores, finite_decays, pairs
from jaxseq.ops.linear_scan import linear_scan


def chunked(q, k, v, log_a, state, bonus, reset, mask, *, chunk, keep=False):
    """One chunk after the other; the backward pass makes what is in a chunk again from the state before it."""
    xs, bonus = _chunks(q, k, v, log_a, bonus, reset, mask, chunk)
    # A decay that is the same in every chunk is not scanned over.
    constant = log_a is not None and xs["log_a"].shape[0] < xs["v"].shape[0]
    shared = xs.pop("log_a")[0] if constant else None

    def body(S, x):
        after, y = _advance({"log_a": shared, **x}, S, bonus)
        return after, (y, S if keep else None)

    last, (y, before) = lax.scan(jax.checkpoint(body), grouped(state, q.shape[2]), xs)
    return join(y, v.shape[1]), heads(last), before


def associative(q, k, v, log_a, state, bonus, reset, mask, *, chunk, keep=False):
    """All chunks side by side."""
    x, bonus = _chunks(q, k, v, log_a, bonus, reset, mask, chunk)
    # What a chunk's matmuls were made of is made again in the backward pass: kept are the inputs and the states.
    inside, written, decay = jax.checkpoint(_within)(x, bonus)
    cut = None if reset is None else _cut(x)[..., 0, 0].T
    decay, written, start = jnp.swapaxes(decay, 0, 1), jnp.swapaxes(written, 0, 1), grouped(state, q.shape[2])
    after = linear_scan(decay, written, start, reset=cut, method="associative")
    before = jnp.swapaxes(previous(after, start, None), 0, 1)
    y = inside + jax.checkpoint(partial(_carried, exclusive=bonus is not None))(x, before)
    return join(y, v.shape[1]), heads(after[:, -1]), before if keep else None


def pulled(q, k, v, log_a, before, reset, mask, g, last, *, chunk):
    """The cotangents of (q, k, v, log_a, state), one chunk after the other, given the states `before` all of them and
    the cotangents g of y and `last` of the last state. There is no bonus.
    """
    arrays, pull_chunks, rest = jax.vjp(partial(_apart, reset, mask, chunk), q, k, v, log_a, has_aux=True)
    constant = {"log_a": arrays.pop("log_a")[0]} if log_a is not None and len(arrays["log_a"]) < len(before) else {}

    def body(R, x):
        arrays, rest, S, g = x
        _, pull = jax.vjp(lambda arrays, S: _advance(arrays | rest, S, None), arrays | constant, S)
        cotangents, R = pull((R, g))
        return R, cotangents

    xs = arrays, rest, before, split(g, q.shape[2], min(chunk, v.shape[1]))
    first, cotangents = lax.scan(body, grouped(last, q.shape[2]), xs, reverse=True)
    summed = {name: jnp.sum(cotangents[name], axis=0, keepdims=True) for name in constant}
    return *pull_chunks(cotangents | summed), heads(first)


def _advance(x, S, bonus):
    """The state after a chunk, and y of its steps."""
    inside, written, decay = _within(x, bonus)
    kept = S if x["document"] is None else jnp.where(_cut(x)[..., None, None], 0, S)
    return decay * kept + written, inside + _carried(x, S, bonus is not None)


def _within(x, bonus):
    """What a chunk reads of its own writes, what it writes, and its decay; x as of `_chunks`, with or without M."""
    q, k, v, document, strict = x["q"], x["k"], x["v"], x["document"], bonus is not None
    log_a = finite_decays(x["log_a"])
    scores = decayed_scores((q,), (k,), log_a, document, strict=(strict,))[..., 0, :, 0, :]
    if bonus is not None:
        scores = scores + jnp.eye(q.shape[-2], dtype=q.dtype) * jnp.sum(q * bonus * k, axis=-1)[..., None]
    ending = None if document is None else document == document[..., -1:]
    keys, values = k, v
    if log_a is not None and _one_decay(log_a):
        values = v * decay_to_end(log_a)
    elif log_a is not None:
        keys = k * decay_to_end(log_a)
    written = write(select(ending, keys), select(ending, values))
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


def write(k, v):
    """Σ_j k_j v_jᵀ (..., K, V)."""
    return jnp.matmul(jnp.swapaxes(k, -1, -2), v, precision=lax.Precision.HIGHEST)


def _decay(x):
    """What is left of the state before a chunk at its end (..., K, 1); anything where a reset cuts the chunk."""
    if x["log_a"] is None:
        return jnp.ones((1,) * x["v"].ndim, x["v"].dtype)
    total = jnp.sum(x["log_a"], axis=-2)
    return jnp.exp(total if x["document"] is None else jnp.where(_cut(x)[..., None], 0, total))[..., None]


def _one_decay(x):
    """Whether the channels share one: then it scales v and y, which every head has of its own, not a group's q and k.

    The gradient of these is then one product over all heads of the group, not a sum of theirs.
    """
    return x.shape[-1] == 1


def _cut(x):
    """(..., 1, 1) bool: a document starts in the chunk."""
    return x["document"][..., -1] != x["before"]


def _carried(x, state, exclusive):
    """What the steps of a chunk read of the state before it, zero from the first reset on."""
    q, log_a = x["q"], finite_decays(x["log_a"])
    decay = None if log_a is None else decay_from_start(log_a, exclusive=exclusive)
    if decay is None or _one_decay(decay):
        y = jnp.matmul(q, state, precision=lax.Precision.HIGHEST)
        y = y if decay is None else decay * y
    else:
        y = jnp.matmul(q * decay, state, precision=lax.Precision.HIGHEST)
    return y if x["document"] is None else select(x["document"] == x["before"][..., None], y)


def sequential(q, k, v, log_a, state, bonus, reset, mask, *, chunk, keep=False):
    """One step at a time; the backward pass makes the states of a chunk again from the one before it."""
    time, groups, size = v.shape[1], q.shape[2], min(chunk, v.shape[1])
    mask = jnp.ones(v.shape[:2], bool) if mask is None and time % size else mask
    a = jnp.ones((1, 1, v.shape[2], 1), v.dtype) if log_a is None else jnp.exp(log_a)
    arrays = {"q": q, "k": k, "v": v, "a": a if a.shape[1] == time else None}
    xs = jax.tree.map(lambda x: split(x, groups, size), arrays)
    xs |= jax.tree.map(lambda x: split(x, 1, size), {"reset": reset, "mask": mask})
    xs = jax.tree.map(lambda x: jnp.moveaxis(x, 4, 1), xs)
    step = partial(_step, grouped(a[:, 0], groups), None if bonus is None else grouped(bonus[None], groups)[0])

    def body(S, x):
        last, y = lax.scan(step, S, x)
        return last, (y, S if keep else None)

    last, (y, before) = lax.scan(jax.checkpoint(body), grouped(state, groups), xs)
    return join(jnp.moveaxis(y, 1, 4), v.shape[1]), heads(last), before


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
        log_a = select(mask, jnp.broadcast_to(log_a, (log_a.shape[0], steps, *log_a.shape[2:])))
    arrays = jax.tree.map(lambda x: split(x, groups, size), {"q": q, "k": k, "v": v, "log_a": log_a})
    bonus = None if bonus is None else bonus.reshape(groups, -1, 1, bonus.shape[-1])
    return {**arrays, "document": document, "before": before}, bonus


def _apart(reset, mask, chunk, q, k, v, log_a):
    """`_chunks`, those that have derivatives and the others."""
    x, _ = _chunks(q, k, v, log_a, None, reset, mask, chunk)
    rest = {name: x.pop(name) for name in ("document", "before")}
    return x, rest


def select(flag, x):
    """x (B, T, ...), zero where the flag is False."""
    return x if flag is None else jnp.where(over_time(flag, x), x, 0)


def prepared(scale, mask, q, k, v):
    """q, k and v as the methods take them."""
    return scale * select(mask, q), select(mask, k), select(mask, v)


METHODS: dict[str, Any] = {"chunked": chunked, "associative": associative, "sequential": sequential}
