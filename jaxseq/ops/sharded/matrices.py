"""The recurrences of matrices: linear attention, and the delta rule and its kin."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxseq import ops
from jaxseq.ops.algebra import over_time
from jaxseq.ops.checks import accumulation_dtype
from jaxseq.ops.matrix_state import affine_map
from jaxseq.ops.sharded.parts import NEUTRAL, in_common_units, over_parts, starts_anew


def linear_attention(q, k, v, log_a=None, state=None, *, bonus=None, reset=None, mask=None, axis="seq", **options):
    """`ops.linear_attention`."""

    def op(x, S):
        return ops.linear_attention(**x, state=S, **options)

    def summary(x, S):
        return _column_decay(x, S, S.shape[3]), _columns(op(x, jnp.zeros_like(S))[1]), starts_anew(x, S)

    inputs = _inputs(q, k, v, log_a, reset, mask, bonus=(bonus, "H K"))
    start = _start(state, q, v), "B H K V"
    return over_parts(op, summary, _decayed, inputs, start, "B T H V", axis, form=(_columns, _matrices))


def normalized_linear_attention(q, k, v, log_a=None, state=None, *, reset=None, mask=None, axis="seq", **options):
    """`ops.normalized_linear_attention`."""
    S = _start(None if state is None else state[0], q, v)
    start = S, jnp.zeros_like(S[..., 0]) if state is None else state[1]

    def op(x, state):
        y, den, state = ops.normalized_linear_attention(**x, state=state, **options)
        return (y, den), state

    def summary(x, state):
        after = op(x, jax.tree.map(jnp.zeros_like, state))[1]
        return _column_decay(x, state[0], 1 + state[0].shape[3]), _joined(after), starts_anew(x, state[0])

    inputs, letters = _inputs(q, k, v, log_a, reset, mask), ("B T H V", "B T H")
    start = start, ("B H K V", "B H K")
    (y, den), state = over_parts(op, summary, _decayed, inputs, start, letters, axis, form=(_joined, _apart))
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
        return _column_decay(x, state[0], 1 + state[0].shape[3])[..., 0], pack(after), starts_anew(x, state[0])

    def combine(part, state):
        log_decay, (new, m), cut = part
        past = jax.lax.stop_gradient(state[1]) + log_decay
        m, sums = in_common_units(cut, (past, state[0]), (m, new))
        return sums, m

    inputs = _inputs(q, k, v, log_a, reset, mask, log_i=(log_i, "B T H"))
    letters, state_letters = ("B T H V", "B T H", "B T H"), ("B H K V", "B H K", "B H")
    start = empty if state is None else state, state_letters
    y, state = over_parts(op, summary, combine, inputs, start, letters, axis, form=(pack, unpack))
    return *y, state


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
        return *affine_map(lambda v, S: run(**others, v=v, state=S), x["v"], S.shape[-2]), starts_anew(x, S)

    def combine(part, S):
        total, written, cut = part
        return written + jnp.where(over_time(cut, S), 0, jnp.matmul(total, S, precision="highest"))

    op = lambda x, S: run(**x, state=S)  # noqa: E731
    return over_parts(op, summary, combine, inputs, (start, "B H K V"), "B T H V", axis)


def _inputs(q, k, v, log_a, reset, mask, **others):
    decay = None if log_a is None else "B T H" if log_a.ndim == 3 else "B T H K"
    named = {"q": (q, "B T G K"), "k": (k, "B T G K"), "v": (v, "B T H V"), "log_a": (log_a, decay), **others}
    return {**named, "reset": (reset, "B T"), "mask": (mask, "B T")}


def _start(state, q, v):
    shape = (v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    return jnp.zeros(shape, accumulation_dtype(q, v)) if state is None else state


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
