"""A recurrence whose time is split over devices: every shard's summary, one exchange, and every shard from its state.

A shard's summary says what it does to any state before it. All shards' summaries, gathered, give each shard the state
it starts from; then it runs as if it were the whole sequence. The backward pass is the same, the other way: what a
shard does to the cotangent of the state after it is linear, so that one more exchange gives each shard that cotangent.
What travels is a few states, however long the sequence: one collective each way, and a sum where an input is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def relay(
    op: Callable[..., Any],
    summary: Callable[..., Any],
    combine: Callable[..., Any],
    inputs: Any,
    start: Any,
    *,
    axis: str,
    reverse: bool = False,
    gather: Callable[..., Any] | None = None,
) -> Any:
    """(y, final) of one device's part of a sequence. To be called on every device of the mesh axis `axis`.

    Args:
      op: (inputs, state before) -> (y, state after), of a part of the sequence.
      summary: (inputs, a state, for its shape) -> what that part does to any state.
      combine: (summary, state before) -> state after.
      inputs: this device's part.
      start: the state before the whole sequence, the same on all devices.
      axis: the mesh axis over which time is split.
      reverse: whether the sequence runs from the last device to the first.
      gather: (tree, axis) -> every device's tree, stacked; `together` if None.
    """
    gather = together if gather is None else gather

    @jax.custom_vjp
    def run(inputs, start):
        return forward(inputs, start)[0]

    def forward(inputs, start):
        summaries = gather(summary(inputs, start), axis)
        final, before = lax.scan(lambda s, part: (combine(part, s), s), start, summaries, reverse=reverse)
        (y, _), pull = jax.vjp(op, inputs, mine(before, axis))
        return (y, final), (pull, summaries, before)

    def backward(saved, cotangents):
        (pull, summaries, before), (g, g_final) = saved, cotangents
        # All devices hold the final state, and each is given its share of that state's cotangent.
        g_final = jax.tree.map(lambda x: x * lax.axis_size(axis), g_final)
        alone = gather(pull((g, jax.tree.map(jnp.zeros_like, g_final)))[1], axis)

        def step(after, x):
            part, state, own = x
            through = jax.vjp(lambda s: combine(part, s), state)[1](after)[0]
            return jax.tree.map(jnp.add, own, through), after

        first, after = lax.scan(step, g_final, (summaries, before, alone), reverse=not reverse)
        return pull((g, mine(after, axis)))[0], jax.tree.map(lambda x: x / lax.axis_size(axis), first)

    run.defvjp(forward, backward)
    return run(inputs, start)


def mine(stacked: Any, axis: str) -> Any:
    """This device's entry of arrays with one for every device."""
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, lax.axis_index(axis), keepdims=False), stacked)


def together(tree: Any, axis: str) -> Any:
    """Every device's tree, stacked, by one collective."""
    leaves, structure = jax.tree.flatten(tree)
    dtype = jnp.result_type(*leaves)
    everything = lax.all_gather(jnp.concatenate([x.astype(dtype).reshape(-1) for x in leaves]), axis)
    ends = list(accumulate((x.size for x in leaves), initial=0))
    cut = [everything[:, a:b].reshape(-1, *x.shape) for a, b, x in zip(ends[:-1], ends[1:], leaves, strict=True)]
    cut = [y if jnp.iscomplexobj(x) else y.real for x, y in zip(leaves, cut, strict=True)]
    return jax.tree.unflatten(structure, [y.astype(x.dtype) for x, y in zip(leaves, cut, strict=True)])


def each(tree: Any, axis: str) -> Any:
    """The same by one collective per array, none of which is taken apart: for axes that are left to the compiler."""
    return jax.tree.map(lambda x: lax.all_gather(x, axis), tree)
