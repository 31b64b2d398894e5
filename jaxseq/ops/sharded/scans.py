"""The scans of channels: what a part of time does to a state is a decay and a sum."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq import ops
from jaxseq.ops.affine import masked_input
from jaxseq.ops.affine_methods import summary as stretch_summary
from jaxseq.ops.algebra import DIAGONAL, ENTRIES, LOGARITHMS, unless
from jaxseq.ops.block_scan import BLOCK
from jaxseq.ops.checks import accumulation_dtype
from jaxseq.ops.sharded.parts import NEUTRAL, in_common_units, over_parts, starts_anew


def linear_scan(a, b, h0=None, *, reset=None, mask=None, reverse=False, axis="seq", **options):
    """`ops.linear_scan`."""
    letters = "B T D" + " _" * (b.ndim - 3)
    return _affine(ops.linear_scan, DIAGONAL, a, letters, b, letters, h0, reset, mask, reverse, axis, options)


def block_scan(A, b, h0=None, *, reset=None, mask=None, reverse=False, axis="seq", **options):
    """`ops.block_scan`."""
    letters = "B T G K K", b, "B T G K"
    return _affine(ops.block_scan, BLOCK, A, *letters, h0, reset, mask, reverse, axis, options)


def coupled_scan(A, b, h0=None, *, reset=None, mask=None, reverse=False, axis="seq", **options):
    """`ops.coupled_scan`."""
    letters = tuple(("B T D",) * len(b) for _ in b), b, ("B T D",) * len(b)
    return _affine(ops.coupled_scan, ENTRIES, A, *letters, h0, reset, mask, reverse, axis, options)


def log_linear_scan(log_a, log_b, log_h0=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.log_linear_scan`."""
    letters = "B T D" + " _" * (log_b.ndim - 3)
    scan = lambda a, b, h0, *, reverse, **flags: ops.log_linear_scan(a, b, h0, **flags)  # noqa: E731
    args = (scan, LOGARITHMS, log_a, letters, log_b, letters, log_h0, reset, mask, False, axis, options)
    return _affine(*args)


def prefix_logsumexp(s, z0=None, *, reset=None, mask=None, axis="seq"):
    """`ops.prefix_logsumexp`."""
    still = jnp.zeros((1,) * s.ndim, accumulation_dtype(s))
    return log_linear_scan(still, s, z0, reset=reset, mask=mask, axis=axis)


def softmax_scan(s, v, state=None, *, decay=None, bonus=None, reset=None, mask=None, axis="seq", **options):
    """`ops.softmax_scan`."""
    dtype, shape = accumulation_dtype(s, v), (s.shape[0], *s.shape[2:])
    zeros = jnp.zeros(shape, dtype), jnp.zeros((*shape, v.shape[-1]), dtype)
    start = (jnp.full(shape, NEUTRAL, dtype), *zeros) if state is None else state
    decay, bonus = (None if x is None else jnp.broadcast_to(jnp.asarray(x, dtype), shape[1:]) for x in (decay, bonus))

    def op(x, state):
        return ops.softmax_scan(**x, state=state, **options)

    def summary(x, state):
        empty = (jnp.full_like(state[0], NEUTRAL), *map(jnp.zeros_like, state[1:]))
        steps = jnp.sum(x["mask"], axis=1, keepdims=True) if "mask" in x else x["s"].shape[1]
        return (
            jnp.broadcast_to(-x.get("decay", 0.0) * steps, state[0].shape).astype(dtype),
            op(x, empty)[1],
            starts_anew(x, state[0]),
        )

    def combine(part, state):
        log_decay, new, cut = part
        return in_common_units(cut, (state[0] + log_decay, *state[1:]), new)

    inputs = {"s": (s, "B T H"), "v": (v, "B T H V"), "decay": (decay, "H"), "bonus": (bonus, "H")}
    inputs |= {"reset": (reset, "B T"), "mask": (mask, "B T")}
    return over_parts(op, summary, combine, inputs, (start, ("B H", "B H", "B H V")), "B T H V", axis)


def _affine(scan, algebra, a, a_letters, b, b_letters, h0, reset, mask, reverse, axis, options):
    dtype = accumulation_dtype(*jax.tree.leaves((a, b, h0)))
    wide = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)  # noqa: E731
    empty = jax.tree.map(lambda x: jnp.full(x.shape[:1] + x.shape[2:], algebra.zero, dtype), b)
    start = empty if h0 is None else wide(h0)

    def op(x, start):
        h = scan(x["a"], x["b"], start, reset=x.get("reset"), mask=x.get("mask"), reverse=reverse, **options)
        return h, wide(jax.tree.map(lambda h: h[:, 0 if reverse else -1], h))

    def summary(x, h):
        mask = x.get("mask")
        b = masked_input(algebra, wide(x["b"]), mask)
        total, last = stretch_summary(algebra, wide(x["a"]), b, x.get("reset"), mask, reverse=reverse)
        return total, last, starts_anew(x, jax.tree.leaves(h)[0])

    def combine(part, h):
        total, last, cut = part
        return algebra.add(unless(cut, algebra.apply(total, h), algebra.zero), last)

    inputs = {"a": (a, a_letters), "b": (b, b_letters), "reset": (reset, "B T"), "mask": (mask, "B T")}
    state = jax.tree.map(lambda letters: letters.replace(" T", "", 1), b_letters)
    return over_parts(op, summary, combine, inputs, (start, state), b_letters, axis, reverse)[0]
