"""Windows of the last few tokens: a part of time that is shorter passes on what it was given."""

from __future__ import annotations

import jax.numpy as jnp

from jaxseq import ops
from jaxseq.ops.sharded.parts import over_parts, starts_anew
from jaxseq.ops.shift import shift_taps


def causal_conv(x, w, b=None, state=None, *, reset=None, mask=None, axis="seq"):
    """`ops.causal_conv`. A device's part may be shorter than the window."""
    past = w.shape[0] - 1
    start = jnp.zeros((x.shape[0], past, x.shape[2]), x.dtype) if state is None else state
    inputs = {"x": (x, "B T D"), "w": (w, "W D"), "b": (b, "D"), "reset": (reset, "B T"), "mask": (mask, "B T")}
    op = lambda x, state: ops.causal_conv(**x, state=state)  # noqa: E731
    turned = lambda state, _=None: jnp.swapaxes(state, 1, 2)  # noqa: E731  channels first, as `relay` wants them

    def summary(x, state):
        valid = jnp.sum(x["mask"], axis=1) if "mask" in x else jnp.full(state.shape[:1], x["x"].shape[1])
        return valid, turned(op(x, jnp.zeros_like(state))[1]), starts_anew(x, state)

    def combine(part, state):
        # Fewer new tokens than the window holds: the rest are the last ones of the state before.
        count, new, cut = part
        index = jnp.minimum(count[:, None] + jnp.arange(past), past - 1)
        old = jnp.take_along_axis(state, index[:, None], axis=2)
        fresh = cut[:, None] | (jnp.arange(past) >= past - count[:, None])
        return jnp.where(fresh[:, None], new, old)

    return over_parts(op, summary, combine, inputs, (start, "B _ D"), "B T D", axis, form=(turned, turned))


def token_shift(x, state=None, *, reset=None, mask=None, axis="seq"):
    """`ops.token_shift`."""
    return causal_conv(x, shift_taps(x), None, state, reset=reset, mask=mask, axis=axis)
