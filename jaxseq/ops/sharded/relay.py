"""A recurrence whose time is split over devices: every shard's summary, two exchanges, and every shard from its state.

A shard's summary says what it does to any state before it. Every device is dealt a part of the channels of all shards'
summaries, finds the states between the shards for these channels, and sends each shard its own; then a shard runs as if
it were the whole sequence. The backward pass is the same, the other way: what a shard does to the cotangent of the
state after it is linear, so that two more exchanges give each shard that cotangent. What a device sends is a few
states, however long the sequence and however many the devices: two collectives each way, and a sum where an input is
shared. (Devices beyond the number of channels have nothing to do, and are sent padding.)
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
    exchange: Callable[..., Any] | None = None,
) -> Any:
    """(y, final) of one device's part of a sequence. To be called on every device of the mesh axis `axis`.

    Args:
      op: (inputs, state before) -> (y, state after), of a part of the sequence.
      summary: (inputs, a state, for its shape) -> what that part does to any state.
      combine: (summary, state before) -> state after, of some of the channels: axis 1 of every array of a state. The
        arrays of a summary have them there too, or are the same for all.
      inputs: this device's part.
      start: the state before the whole sequence, the same on all devices.
      axis: the mesh axis over which time is split.
      reverse: whether the sequence runs from the last device to the first.
      exchange: (tree, axis) -> see `together`, which it is if None.
    """
    exchange = together if exchange is None else exchange
    width = jax.tree.leaves(start)[0].shape[1]

    def home(of_each, of_all):
        """A device's own of what there is for every device, and what is for all, from the parts of the channels."""
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (lax.axis_size(axis), *x.shape)), of_all)
        return joined(exchange((of_each, copies), axis), width)

    @jax.custom_vjp
    def run(inputs, start):
        return forward(inputs, start)[0]

    def forward(inputs, start):
        summaries = exchange(dealt(summary(inputs, start), width, axis), axis)
        step = lambda s, part: (combine(part, s), s)  # noqa: E731
        final, before = lax.scan(step, mine(dealt(start, width, axis), axis), summaries, reverse=reverse)
        left, final = home(before, final)
        (y, _), pull = jax.vjp(op, inputs, left)
        return (y, final), (pull, summaries, before)

    def backward(saved, cotangents):
        (pull, summaries, before), (g, g_final) = saved, cotangents
        # All devices hold the final state, and each is given its share of that state's cotangent.
        g_final = jax.tree.map(lambda x: x * lax.axis_size(axis), g_final)
        alone = exchange(dealt(pull((g, jax.tree.map(jnp.zeros_like, g_final)))[1], width, axis), axis)

        def step(after, x):
            part, state, own = x
            through = jax.vjp(lambda s: combine(part, s), state)[1](after)[0]
            return jax.tree.map(jnp.add, own, through), after

        last = mine(dealt(g_final, width, axis), axis)
        first, after = lax.scan(step, last, (summaries, before, alone), reverse=not reverse)
        right, first = home(after, first)
        return pull((g, right))[0], jax.tree.map(lambda x: x / lax.axis_size(axis), first)

    run.defvjp(forward, backward)
    return run(inputs, start)


def dealt(tree: Any, width: int, axis: str) -> Any:
    """Arrays (B, width, ...) as (n, B, channels, ...), a part for each of n devices, padded with zeros; arrays that
    have no channels, n times.
    """
    n = lax.axis_size(axis)
    channels = -(-width // n)

    def one(x):
        if x.ndim < 2 or x.shape[1] != width:
            return jnp.broadcast_to(x, (n, *x.shape))
        padded = jnp.pad(x, [(0, n * channels - width if i == 1 else 0) for i in range(x.ndim)])
        return jnp.moveaxis(padded.reshape(x.shape[0], n, channels, *x.shape[2:]), 1, 0)

    return jax.tree.map(one, tree)


def joined(tree: Any, width: int) -> Any:
    """Arrays (n, B, channels, ...), as they were dealt, whole."""

    def one(x):
        return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])[:, :width]

    return jax.tree.map(one, tree)


def mine(stacked: Any, axis: str) -> Any:
    """This device's entry of arrays with one for every device."""
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, lax.axis_index(axis), keepdims=False), stacked)


def together(tree: Any, axis: str) -> Any:
    """Entry i of every array goes to device i, and each has one of every device after, by one collective."""
    leaves, structure = jax.tree.flatten(tree)
    dtype, n = jnp.result_type(*leaves), lax.axis_size(axis)
    everything = _swap(jnp.concatenate([x.astype(dtype).reshape(n, -1) for x in leaves], axis=1), axis)
    ends = list(accumulate((x.size // n for x in leaves), initial=0))
    cut = [everything[:, a:b].reshape(x.shape) for a, b, x in zip(ends[:-1], ends[1:], leaves, strict=True)]
    cut = [y if jnp.iscomplexobj(x) else y.real for x, y in zip(leaves, cut, strict=True)]
    return jax.tree.unflatten(structure, [y.astype(x.dtype) for x, y in zip(leaves, cut, strict=True)])


def each(tree: Any, axis: str) -> Any:
    """The same by one collective per array, none of which is taken apart: for axes that are left to the compiler."""
    return jax.tree.map(lambda x: _swap(x, axis), tree)


def _swap(x: jax.Array, axis: str) -> jax.Array:
    return lax.all_to_all(x, axis, split_axis=0, concat_axis=0)
