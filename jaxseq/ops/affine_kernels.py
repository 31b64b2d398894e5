"""The fused kernels for affine recurrences, as cells whose step is A h + b.

A complex channel is a cell of two states, its parts; a block of K channels one of K states, each an array of its own,
as the states of `coupled_scan` are from the start.
A decay that all rows and steps share is a table of the program: it is read once, not at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.affine_methods import Algorithm
from jaxseq.ops.channelwise import Program, make_program
from jaxseq.ops.fused import KERNELS

Arrays = Sequence[jax.Array]
LARGEST = 4  # states of a block: with K² decays, what a kernel's registers hold


def fused(op: str, method: str, dtype: Any, size: int | None = None) -> dict[str, Algorithm]:
    """The kernels by the name of their method, for states of that dtype, in blocks of `size` if they are blocks.

    None if they do not fit, and ValueError if `method` names one then.
    """
    fits = dtype in (jnp.float32, jnp.complex64) if size is None else dtype == jnp.float32 and size <= LARGEST
    if fits:
        return {name: Algorithm(partial(_run, x), None, partial(_backward, x)) for name, x in KERNELS.items()}
    if method == "kernel" or method in KERNELS:
        needs = "float32 or complex64" if size is None else f"float32 and blocks of at most {LARGEST}"
        raise ValueError(
            f"method {method!r} of {op} needs {needs}, got {dtype}{'' if size is None else f', K = {size}'}"
        )
    return {}


def _run(kernel, _, a, b, h0, reset, mask, *, reverse):
    a, b, reset, mask = _flip((a, b, reset, mask), reverse)
    block = _is_block(a, b)
    program, tables, u = _as_cell(a, b, block)
    h = kernel.forward(program, tables, u, _states(h0, block, 1), reset, mask)
    return _flip(_whole(h, b, block), reverse)


def _backward(kernel, _, a, h, h0, g, reset, mask, *, reverse):
    a, h, g, reset, mask = _flip((a, h, g, reset, mask), reverse)
    block = _is_block(a, h)
    program = _as_cell(a, h, block)[0]
    (tables, u), pull_inputs = jax.vjp(lambda a, b: _as_cell(a, b, block)[1:], a, h)  # b is not read: any array will do
    starts, pull_start = jax.vjp(lambda h0: _states(h0, block, 1), h0)
    states = _states(h, block, 2)
    (cotangents,) = jax.linear_transpose(lambda states: _whole(states, g, block), states)(g)
    dtables, du, dstarts = kernel.backward(program, tables, u, starts, reset, mask, states, cotangents)
    da, db = pull_inputs((dtables, du))
    return _flip(da, reverse), _flip(db, reverse), pull_start(dstarts)[0]


def _as_cell(a: jax.Array, b: jax.Array, block: bool) -> tuple[Program, list[jax.Array], list[jax.Array]]:
    """The program of h -> A h + b, its tables, and its inputs (B, T, D)."""
    step, inputs = partial(_step, not isinstance(b, tuple) and jnp.iscomplexobj(b)), _states(b, block, 2)
    first = jax.tree.leaves(b)[0]
    wanted = first.shape[:-1] if block else first.shape
    if jax.tree.leaves(a)[0].shape[:2] == (1, 1):
        entries = _entries(jax.tree.map(lambda x: x[0, 0], a), block)
        decays = [jnp.broadcast_to(x, wanted[2:]).reshape(-1) for x in entries]
        return *make_program(step, decays, inputs, inputs, jnp.float32), inputs
    decays = [jnp.broadcast_to(x, wanted).reshape(*wanted[:2], -1) for x in _entries(a, block)]
    u, n = [*decays, *inputs], len(decays)
    return *make_program(lambda _, h, u: step(u[:n], h, u[n:]), None, inputs, u, jnp.float32), u


def _step(is_complex: bool, decays: Arrays, h: Arrays, b: Arrays) -> list[jax.Array]:
    """A h + b on one number a channel and state; `decays` has the entries of A row by row."""
    a, k = list(decays), len(h)
    rows = [[a[0], -a[1]], [a[1], a[0]]] if is_complex else [a[i * k : (i + 1) * k] for i in range(k)]
    return [sum((x * y for x, y in zip(row, h, strict=True)), start=x) for row, x in zip(rows, b, strict=True)]


def _is_block(a: Any, b: Any) -> bool:
    """Whether the states of a block lie along the last axis of one array."""
    return not isinstance(b, tuple) and a.ndim > b.ndim


def _entries(a: Any, block: bool) -> Arrays:
    """The numbers that make up A, each an array over channels: its parts, or its entries row by row."""
    if isinstance(a, tuple):
        return jax.tree.leaves(a)
    if block:
        return [a[..., i, j] for i in range(a.shape[-1]) for j in range(a.shape[-1])]
    return [a.real, a.imag] if jnp.iscomplexobj(a) else [a]


def _states(x: Any, block: bool, leading: int) -> list[jax.Array]:
    """x as one array for every state of a channel, with all channels on the axis after the leading ones."""
    if isinstance(x, tuple):
        return [part.reshape(*part.shape[:leading], -1) for part in x]
    parts = [x[..., i] for i in range(x.shape[-1])] if block else [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return [part.reshape(*x.shape[:leading], -1) for part in parts]


def _whole(states: Arrays, like: Any, block: bool) -> Any:
    """The inverse of `_states`."""
    if isinstance(like, tuple):
        return tuple(x.reshape(part.shape) for x, part in zip(states, like, strict=True))
    if block:
        return jnp.stack(states, axis=-1).reshape(like.shape)
    x = lax.complex(*states) if jnp.iscomplexobj(like) else states[0]
    return x.reshape(like.shape)


def _flip(tree: Any, reverse: bool) -> Any:
    return jax.tree.map(lambda x: jnp.flip(x, 1) if x.shape[1] > 1 else x, tree) if reverse else tree
