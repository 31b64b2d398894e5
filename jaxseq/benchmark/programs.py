"""The programs whose compilation is measured: channelwise recurrences, forward and backward, without any data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import ops
from jaxseq.cells.paragru import ParaGRU

DIRECTIONS = "forward", "backward"


@dataclass(frozen=True)
class Program:
    """A function of arrays and what to call it with.

    Attributes:
      function: (*args, method=) -> the states.
      args: trees of `jax.ShapeDtypeStruct`.
      unread: for every argument whether the backward pass can do without it.
      methods: the methods to compile.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    unread: tuple[bool, ...]
    methods: tuple[str, ...] = ("kernel:tpu",)

    def trace(self, direction: str, method: str, sharding: Any) -> Any:
        """The traced function, to be lowered and compiled where `sharding` says; of the backward pass the cotangents
        of all arguments, given what the forward pass keeps and the cotangents of the states.
        """
        function = partial(self.function, method=method)
        if direction == "forward":
            return jax.jit(function).trace(*place(self.args, sharding))
        h, pull = jax.eval_shape(lambda *args: jax.vjp(function, *args), *self.args)
        return jax.jit(lambda pull, g: pull(g)).trace(*place((pull, h), sharding))

    def least_bytes(self, direction: str) -> int:
        """Every input that the direction needs read once, every output written once."""
        h = size(jax.eval_shape(partial(self.function, method="sequential"), *self.args))
        if direction == "forward":
            return size(self.args) + h
        kept = [x for x, unread in zip(self.args, self.unread, strict=True) if not unread]
        return size(kept) + 2 * h + size(self.args)


def programs(batch: int, time: int, width: int) -> dict[str, Program]:
    """By name, in float32."""
    steps, state, channels = _array(batch, time, width), _array(batch, width), _array(width)
    gru = {"a": _array(3, width)}
    scans = "kernel:tpu", "associative"
    return {
        "cell_scan ParaGRU": Program(
            partial(ops.cell_scan, ParaGRU(width, width).step), (gru, (steps,) * 3, state), (False,) * 3
        ),
        "cell_scan two states": Program(
            partial(ops.cell_scan, lstm_step), ([channels] * 3, (steps,) * 3, (state, state)), (False,) * 3
        ),
        "linear_scan": Program(ops.linear_scan, (steps, steps, state), (False, True, False), scans),
        "linear_scan constant": Program(
            ops.linear_scan, (_array(1, 1, width), steps, state), (False, True, False), scans
        ),
    }


def lstm_step(params: Any, state: Any, u: Any) -> Any:
    """A step like ParaLSTM's (Danieli et al. 2025, arXiv 2510.21450, section 4.2): the input gate is 1 - f, the
    recurrent weights are diagonal, and the output gate sees the new cell. State (c, h), u for f, z and o.
    """
    (a_f, a_z, a_o), (c, h), (u_f, u_z, u_o) = params, state, u
    f = jax.nn.sigmoid(a_f * h + u_f)
    c = f * c + (1 - f) * jnp.tanh(a_z * h + u_z)
    return c, jax.nn.sigmoid(a_o * c + u_o) * jnp.tanh(c)


def place(tree: Any, sharding: Any) -> Any:
    """The same shapes, on devices."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def size(tree: Any) -> int:
    """Bytes of all arrays."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
