"""Gradients without going back in time: real-time recurrent learning, exact for channels that do not mix.

The influence of the parameters on the state obeys a recurrence of its own,

    dh_t/dθ = J_t dh_{t-1}/dθ + ∂step/∂θ

For cells whose channels do not mix, a parameter (..., D) acts through its last axis on one channel each, so that a row
of D numbers has an influence no larger than the state, and one JVP of the step advances it (Mozer 1989; Irie,
Gopalakrishnan and Schmidhuber 2023, "Exploring the promise and limits of real-time recurrent learning"). No state is
kept: memory is that of the influences, (rows of all parameters) x B x D, whatever T is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.solvers.heads import Heads


def rtrl(
    cell: Any, params: Any, x: jax.Array, loss: Callable[[Any, Any], jax.Array], targets: Any, h0: Any = None
) -> tuple[jax.Array, Any]:
    """Σ_t loss(h_t, target_t) and its gradient with respect to all parameters of a cell, in one pass forwards.

    Args:
      cell: with the structure Diagonal() or Block(n), and parameters whose last axis is the channel (one head).
      params: the cell's parameters.
      x: inputs (B, T, d_input).
      loss: (h_t, target_t) -> number, of states (B, D) or a tuple of them.
      targets: a tree with leaves (B, T, ...).
      h0: the state before the first step; `cell.init_state(B)` if None.

    Returns:
      The loss and the gradient, a tree like params: those of backpropagation through time.

    Raises:
      ValueError: a cell whose channels mix, or a parameter that has no number for each channel.
    """
    start = cell.init_state(x.shape[0]) if h0 is None else h0
    start = jax.tree.map(lambda h: h.astype(jnp.result_type(*jax.tree.leaves((params, x)))), start)
    rows = _rows(cell, params, jax.tree.leaves(start)[0].shape[-1])
    count = len(jax.tree.leaves(rows)[0])

    def advance(h: Any, x_t: jax.Array, row: Any, influence: Any) -> tuple[Any, Any]:
        return jax.jvp(partial(_step, cell, x_t), (params, h), (row, influence))

    def body(carry: Any, given: Any) -> tuple[Any, None]:
        h, influences, total, gradient = carry
        x_t, target = given
        after, influences = jax.vmap(partial(advance, h, x_t), out_axes=(None, 0))(rows, influences)
        value, g = jax.value_and_grad(loss)(after, target)
        moved = jax.tree.map(lambda g, i: jnp.sum(g * i, axis=1), g, influences)  # (rows, D)
        return (after, influences, total + value, gradient + sum(jax.tree.leaves(moved))), None

    nothing = jax.tree.map(lambda h: jnp.zeros((count, *h.shape), h.dtype), start)
    first = jax.tree.leaves(start)[0]
    carry = start, nothing, jnp.zeros((), first.dtype), jnp.zeros((count, first.shape[-1]), first.dtype)
    by_time = jax.tree.map(lambda y: jnp.moveaxis(y, 1, 0), (x, targets))
    (_, _, total, gradient), _ = lax.scan(body, carry, by_time)
    return total, _like(params, gradient)


def _step(cell: Any, x_t: jax.Array, params: Any, h: Any) -> Any:
    u = jax.tree.map(lambda u: u[:, 0], cell.inputs(params, x_t[:, None]))
    return cell.step(params, h, u)


def _rows(cell: Any, params: Any, width: int) -> Any:
    """For every row of D numbers of the parameters a tangent with ones in it: a tree like params, (rows, ...)."""
    if isinstance(cell.structure, Heads):
        raise ValueError(f"rtrl needs a cell whose channels do not mix, got the structure {cell.structure}")
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if x.shape[-1:] != (width,):
            name = jax.tree_util.keystr(path)
            raise ValueError(f"rtrl needs parameters (..., {width}), one number per channel, got {x.shape} for {name}")
    leaves, structure = jax.tree.flatten(params)
    counts = [x.size // width for x in leaves]
    units = jnp.split(jnp.eye(sum(counts), dtype=leaves[0].dtype), _ends(counts), axis=1)
    wide = [jnp.broadcast_to(u[..., None], (*u.shape, width)) for u in units]
    return jax.tree.unflatten(structure, [u.reshape(-1, *x.shape) for u, x in zip(wide, leaves, strict=True)])


def _like(params: Any, gradient: jax.Array) -> Any:
    leaves, structure = jax.tree.flatten(params)
    parts = jnp.split(gradient, _ends([x.size // x.shape[-1] for x in leaves]))
    return jax.tree.unflatten(structure, [g.reshape(x.shape) for g, x in zip(parts, leaves, strict=True)])


def _ends(counts: list[int]) -> list[int]:
    return [sum(counts[: i + 1]) for i in range(len(counts) - 1)]
