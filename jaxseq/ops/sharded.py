"""Every scan with its time axis split over a mesh axis: the ops' own functions, with the same arguments.

For use under `jax.jit` inside `jax.set_mesh(mesh)`. Each device holds a part of time (and, where the mesh says so, of
rows and heads); `relay` says what travels between them: a few states per device, however long the sequence and however
many the devices. Without a mesh in force, with one that does not split time, and for a single step these are the ops
themselves. A cell's steps have no summary: `cell_scan` is not here. It gathers time; a cell is solved in parallel over
time instead.

Raises, beside what the ops raise: ValueError if the devices do not divide T.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxseq import ops
from jaxseq.ops.affine import masked_input
from jaxseq.ops.affine_methods import summary as stretch_summary
from jaxseq.ops.algebra import DIAGONAL, ENTRIES, FLOOR, LOGARITHMS, over_time, unless
from jaxseq.ops.block_scan import BLOCK
from jaxseq.ops.checks import accumulation_dtype
from jaxseq.ops.matrix_state import affine_map
from jaxseq.ops.placement import per_device, splits, steps
from jaxseq.ops.relay import relay
from jaxseq.ops.shift import shift_taps
from jaxseq.ops.split_project import linear_scan_project as linear_scan_project

NEUTRAL = FLOOR  # the largest exponent of nothing


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
        return total, last, _cut(x, jax.tree.leaves(h)[0])

    def combine(part, h):
        total, last, cut = part
        return algebra.add(unless(cut, algebra.apply(total, h), algebra.zero), last)

    inputs = {"a": (a, a_letters), "b": (b, b_letters), "reset": (reset, "B T"), "mask": (mask, "B T")}
    state = jax.tree.map(lambda letters: letters.replace(" T", "", 1), b_letters)
    return _run(op, summary, combine, inputs, (start, state), b_letters, axis, reverse)[0]


def linear_attention(q, k, v, log_a=None, state=None, *, bonus=None, reset=None, mask=None, axis="seq", **options):
    """`ops.linear_attention`."""

    def op(x, S):
        return ops.linear_attention(**x, state=S, **options)

    def summary(x, S):
        return _column_decay(x, S, S.shape[3]), _columns(op(x, jnp.zeros_like(S))[1]), _cut(x, S)

    inputs = _inputs(q, k, v, log_a, reset, mask, bonus=(bonus, "H K"))
    start = _start(state, q, v), "B H K V"
    return _run(op, summary, _decayed, inputs, start, "B T H V", axis, form=(_columns, _matrices))


def normalized_linear_attention(q, k, v, log_a=None, state=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.normalized_linear_attention`."""
    S = _start(None if state is None else state[0], q, v)
    start = S, jnp.zeros_like(S[..., 0]) if state is None else state[1]

    def op(x, state):
        y, den, state = ops.normalized_linear_attention(**x, state=state, **options)
        return (y, den), state

    def summary(x, state):
        after = op(x, jax.tree.map(jnp.zeros_like, state))[1]
        return _column_decay(x, state[0], 1 + state[0].shape[3]), _joined(after), _cut(x, state[0])

    inputs, letters = _inputs(q, k, v, log_a, reset, mask), ("B T H V", "B T H")
    start = start, ("B H K V", "B H K")
    (y, den), state = _run(op, summary, _decayed, inputs, start, letters, axis, form=(_joined, _apart))
    return y, den, state


def exponential_attention(q, k, v, log_a, log_i, state=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.exponential_attention`."""
    S = _start(None if state is None else state[0], q, v)
    empty = S, jnp.zeros_like(S[..., 0]), jnp.full_like(S[..., 0, 0], NEUTRAL)

    def op(x, state):
        *y, state = ops.exponential_attention(**x, state=state, **options)
        return tuple(y), state

    def pack(state):
        S, n, m = state
        return _joined((S, n)), jnp.repeat(m, S.shape[3] + 1, axis=1)

    def unpack(state, x):
        sums, m = state
        return *_apart(sums, x), m.reshape(*m.shape[:1], x["v"].shape[2], -1)[..., 0]

    def summary(x, state):
        zero = jax.tree.map(jnp.zeros_like, state[:2])
        after = op(x, (*zero, jnp.full_like(state[2], NEUTRAL)))[1]
        return _column_decay(x, state[0], 1 + state[0].shape[3])[..., 0], pack(after), _cut(x, state[0])

    def combine(part, state):
        log_decay, (new, m), cut = part
        past = jax.lax.stop_gradient(state[1]) + log_decay
        m, sums = _in_common_units(cut, (past, state[0]), (m, new))
        return sums, m

    inputs = _inputs(q, k, v, log_a, reset, mask, log_i=(log_i, "B T H"))
    letters, state_letters = ("B T H V", "B T H", "B T H"), ("B H K V", "B H K", "B H")
    start = empty if state is None else state, state_letters
    y, state = _run(op, summary, combine, inputs, start, letters, axis, form=(pack, unpack))
    return *y, state


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
            _cut(x, state[0]),
        )

    def combine(part, state):
        log_decay, new, cut = part
        return _in_common_units(cut, (state[0] + log_decay, *state[1:]), new)

    inputs = {"s": (s, "B T H"), "v": (v, "B T H V"), "decay": (decay, "H"), "bonus": (bonus, "H")}
    inputs |= {"reset": (reset, "B T"), "mask": (mask, "B T")}
    return _run(op, summary, combine, inputs, (start, ("B H", "B H", "B H V")), "B T H V", axis)


def dplr_attention(q, k, v, a, b, log_a=None, state=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.dplr_attention`."""
    inputs = _inputs(q, k, v, log_a, reset, mask, a=(a, "B T G K"), b=(b, "B T G K"))
    return _matrix(partial(ops.dplr_attention, **options), inputs, _start(state, q, v), axis)


def delta_rule(q, k, v, beta, log_a=None, state=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.delta_rule`."""
    inputs = _inputs(q, k, v, log_a, reset, mask, beta=(beta, "B T H"))
    return _matrix(partial(ops.delta_rule, **options), inputs, _start(state, q, v), axis)


def rwkv7_attention(r, log_w, k, v, kk, eta, state=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.rwkv7_attention`."""
    inputs = _inputs(r, k, v, None, reset, mask, **{n: (x, "B T G K") for n, x in (("kk", kk), ("eta", eta))})
    inputs |= {"r": inputs.pop("q"), "log_w": (log_w, "B T G K")}
    return _matrix(partial(ops.rwkv7_attention, **options), inputs, _start(state, r, v), axis)


def _matrix(run, inputs, start, axis):
    """An op whose parts of time map the state S to total S + written."""

    def summary(x, S):
        others = {name: value for name, value in x.items() if name != "v"}
        return *affine_map(lambda v, S: run(**others, v=v, state=S), x["v"], S.shape[-2]), _cut(x, S)

    def combine(part, S):
        total, written, cut = part
        return written + jnp.where(over_time(cut, S), 0, jnp.matmul(total, S, precision="highest"))

    op = lambda x, S: run(**x, state=S)  # noqa: E731
    return _run(op, summary, combine, inputs, (start, "B H K V"), "B T H V", axis)


def causal_conv(x, w, b=None, state=None, *, reset=None, mask=None, axis="seq"):
    """`ops.causal_conv`. A device's part may be shorter than the window."""
    past = w.shape[0] - 1
    start = jnp.zeros((x.shape[0], past, x.shape[2]), x.dtype) if state is None else state
    inputs = {"x": (x, "B T D"), "w": (w, "W D"), "b": (b, "D"), "reset": (reset, "B T"), "mask": (mask, "B T")}
    op = lambda x, state: ops.causal_conv(**x, state=state)  # noqa: E731
    turned = lambda state, _=None: jnp.swapaxes(state, 1, 2)  # noqa: E731  channels first, as `relay` wants them

    def summary(x, state):
        valid = jnp.sum(x["mask"], axis=1) if "mask" in x else jnp.full(state.shape[:1], x["x"].shape[1])
        return valid, turned(op(x, jnp.zeros_like(state))[1]), _cut(x, state)

    def combine(part, state):
        # Fewer new tokens than the window holds: the rest are the last ones of the state before.
        count, new, cut = part
        index = jnp.minimum(count[:, None] + jnp.arange(past), past - 1)
        old = jnp.take_along_axis(state, index[:, None], axis=2)
        fresh = cut[:, None] | (jnp.arange(past) >= past - count[:, None])
        return jnp.where(fresh[:, None], new, old)

    return _run(op, summary, combine, inputs, (start, "B _ D"), "B T D", axis, form=(turned, turned))


def token_shift(x, state=None, *, reset=None, mask=None, axis="seq"):
    """`ops.token_shift`."""
    return causal_conv(x, shift_taps(x), None, state, reset=reset, mask=mask, axis=axis)


def _run(op, summary, combine, inputs, start, results, axis, reverse=False, form=(lambda s: s, lambda s, _: s)):
    """op over whole arrays: `inputs` {name: (array or None, its axes)}, `start` (state, its axes). A summary, and what
    `combine` gets, have the state in the form that `relay` wants, to which and from which `form` takes it.
    """
    given = {name: x for name, x in inputs.items() if x[0] is not None}
    arrays, letters = ({name: x[i] for name, x in given.items()} for i in (0, 1))
    state, state_letters = start
    if not splits(axis, steps(arrays, letters)):
        return op(arrays, state)
    after = jax.eval_shape(op, arrays, state)[1]
    state = jax.tree.map(lambda x, y: x.astype(y.dtype), state, after)  # what travels is of one kind
    pack, unpack = form

    def packed(x, state):
        y, state = op(x, unpack(state, x))
        return y, pack(state)

    def part(x, state):
        whole = lambda x, state: summary(x, unpack(state, x))  # noqa: E731
        y, after = relay(packed, whole, combine, x, pack(state), axis=axis, reverse=reverse)
        return y, unpack(after, x)

    return per_device(part, (arrays, state), (letters, state_letters), (results, state_letters), (axis,))


def _inputs(q, k, v, log_a, reset, mask, **others):
    decay = None if log_a is None else "B T H" if log_a.ndim == 3 else "B T H K"
    named = {"q": (q, "B T G K"), "k": (k, "B T G K"), "v": (v, "B T H V"), "log_a": (log_a, decay), **others}
    return {**named, "reset": (reset, "B T"), "mask": (mask, "B T")}


def _start(state, q, v):
    shape = (v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    return jnp.zeros(shape, accumulation_dtype(q, v)) if state is None else state


def _cut(x, state):
    """(B,) bool: a document starts in this part of time."""
    return jnp.any(x["reset"], axis=1) if "reset" in x else jnp.zeros(state.shape[0], bool)


def _log_decay(x, S):
    """The logarithm of what a part of time leaves of the state S, (B, H, 1 or K)."""
    if "log_a" not in x:
        return jnp.zeros((*S.shape[:2], 1), S.dtype)
    log_a = x["log_a"] if x["log_a"].ndim == 4 else x["log_a"][..., None]
    log_a = jnp.broadcast_to(log_a, (S.shape[0], x["v"].shape[1], *log_a.shape[2:]))
    return jnp.sum(jnp.where(over_time(x["mask"], log_a), log_a, 0) if "mask" in x else log_a, axis=1)


def _columns(S):
    """(B, H · V, K) of (B, H, K, V): to a decay columns are channels, of which there are more than heads."""
    return jnp.swapaxes(S, 2, 3).reshape(S.shape[0], -1, S.shape[2])


def _matrices(columns, x):
    """The inverse, with as many heads as x["v"] has."""
    return jnp.swapaxes(columns.reshape(columns.shape[0], x["v"].shape[2], -1, columns.shape[2]), 2, 3)


def _joined(state):
    """The columns of S (B, H, K, V), with n (B, H, K) as one more of every head."""
    S, n = state
    return _columns(jnp.concatenate([S, n[..., None]], axis=-1))


def _apart(columns, x):
    whole = _matrices(columns, x)
    return whole[..., :-1], whole[..., -1]


def _column_decay(x, S, count):
    """(B, H · count, 1 or K): `_log_decay` of the head of every column."""
    return jnp.repeat(_log_decay(x, S), count, axis=1)


def _decayed(part, columns):
    log_decay, new, cut = part
    return new + jnp.where(over_time(cut, columns), 0, jnp.exp(log_decay) * columns)


def _in_common_units(cut, past, new):
    """(m, sums...) of the past, dropped if a document has started, and of what is new, both in units of e^m."""
    m0, m1 = jnp.where(over_time(cut, past[0]), NEUTRAL, past[0]), new[0]
    m = jax.lax.stop_gradient(jnp.maximum(m0, m1))
    old, fresh = jnp.exp(m0 - m), jnp.exp(m1 - m)
    weigh = lambda weight, x: weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim)) * x  # noqa: E731
    kept = [jnp.where(over_time(cut, x), 0, x) for x in past[1:]]
    return m, *(weigh(old, x) + weigh(fresh, y) for x, y in zip(kept, new[1:], strict=True))
