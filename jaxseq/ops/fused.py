"""The fused kernels of channelwise recurrences by name, run on every device's part of the arrays.

Whatever the op, a kernel is called alike: forward(program, tables, u, h0, reset, mask) -> h, and backward(program,
tables, u, h0, reset, mask, h, g) -> (cotangents of tables, u, h0), over flat lists: tables (D,), u and h (B, T, D), h0
(B, D). Float32; u may be narrower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.ops.channelwise import RESET, SKIP
from jaxseq.ops.kernels import cell_gpu, cell_tpu
from jaxseq.ops.placement import per_device


class Kernel(NamedTuple):
    """A fused recurrence and its cotangents."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def _kernel(module: Any, interpret: bool) -> Kernel:
    runs = (partial(run, interpret=interpret) for run in (module.forward, module.backward))
    return Kernel(*(partial(split, run) for split, run in zip((_forward, _backward), runs, strict=True)))


def _forward(run, program, tables, u, h0, reset, mask):
    args, letters = _operands(tables, u, h0, reset, mask)
    return per_device(partial(run, program), args, letters, ["B T D"] * len(h0))


def _backward(run, program, tables, u, h0, reset, mask, h, g):
    args, letters = _operands(tables, u, h0, reset, mask)
    states = ["B T D"] * len(h)
    results = ["B D"] * len(tables), ["B T D"] * len(u), ["B D"] * len(h0)
    sums, du, dh0 = per_device(partial(run, program), (*args, h, g), (*letters, states, states), results)
    return [jnp.sum(x, axis=0) for x in sums], du, dh0


def _operands(tables, u, h0, reset, mask):
    """What a kernel is given, and the axes of it."""
    flags = _flags(reset, mask)
    letters = ["D"] * len(tables), ["B T D"] * len(u), ["B D"] * len(h0), None if flags is None else "B T"
    return (tables, u, h0, flags), letters


def _flags(reset: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    """The flags (B, T) int32 of `Program.advance`."""
    if reset is None and mask is None:
        return None
    bits = [x * bit for x, bit in ((reset, RESET), (None if mask is None else ~mask, SKIP)) if x is not None]
    return sum(bits[1:], bits[0])


KERNELS = {  # by the name of the method
    "kernel:tpu": _kernel(cell_tpu, interpret=False),
    "kernel:gpu": _kernel(cell_gpu, interpret=False),
    "interpret:tpu": _kernel(cell_tpu, interpret=True),
    "interpret:gpu": _kernel(cell_gpu, interpret=True),
}
