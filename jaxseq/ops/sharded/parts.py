"""How an op runs on parts of time: placed on the devices, relayed between them, from whole arrays to whole arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import FLOOR, over_time
from jaxseq.ops.placement import per_device, splits, steps
from jaxseq.ops.sharded.reals import Reals, in_complex, in_reals, is_reals
from jaxseq.ops.sharded.relay import relay

NEUTRAL = FLOOR  # the largest exponent of nothing


def over_parts(op, summary, combine, inputs, start, results, axis, reverse=False, form=(lambda s: s, lambda s, _: s)):
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
        x = in_complex(x)
        whole = lambda x, state: summary(x, unpack(state, x))  # noqa: E731
        y, after = relay(packed, whole, combine, x, pack(state), axis=axis, reverse=reverse)
        return y, unpack(after, x)

    arrays = jax.tree.map(_in_reals, arrays, letters)
    letters = jax.tree.map(lambda names, x: Reals(names, names) if is_reals(x) else names, letters, arrays)
    return per_device(part, (arrays, state), (letters, state_letters), (results, state_letters), (axis,))


def _in_reals(x, names):
    """Reals for a complex array that is the same at all steps, or has none."""
    sizes = dict(zip(names.split(), x.shape, strict=True))
    return in_reals(x) if sizes.get("T", 1) == 1 else x


def starts_anew(x, state):
    """(B,) bool: a document starts in this part of time."""
    return jnp.any(x["reset"], axis=1) if "reset" in x else jnp.zeros(state.shape[0], bool)


def in_common_units(cut, past, new):
    """(m, sums...) of the past, dropped if a document has started, and of what is new, both in units of e^m."""
    m0, m1 = jnp.where(over_time(cut, past[0]), NEUTRAL, past[0]), new[0]
    m = jax.lax.stop_gradient(jnp.maximum(m0, m1))
    old, fresh = jnp.exp(m0 - m), jnp.exp(m1 - m)
    weigh = lambda weight, x: weight.reshape(weight.shape + (1,) * (x.ndim - weight.ndim)) * x  # noqa: E731
    kept = [jnp.where(over_time(cut, x), 0, x) for x in past[1:]]
    return m, *(weigh(old, x) + weigh(fresh, y) for x, y in zip(kept, new[1:], strict=True))
