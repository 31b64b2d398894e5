"""DropConnect on recurrent weights (Merity, Keskar and Socher 2018, arXiv 1708.02182, section 2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxseq.cells.base import Cell

RECURRENT = ("r", "a")  # the names of recurrent maps: matrices or vectors of a RecurrentCell, vectors of other cells

Params = dict[str, jax.Array]


def drop_connect(cell: Cell, params: Params, key: jax.Array, rate: float) -> Params:
    """Parameters with a share of the recurrent weights at zero and the others scaled up to make good for them.

    The mask is drawn here, once: the same weights are missing at all steps and in all sequences, so a solver that is
    given the result still sees one recurrence with constant parameters.

    Args:
      cell: whose parameters they are.
      params: as `cell.init` makes them.
      key: random key.
      rate: the probability that a weight is dropped, in [0, 1).

    Returns:
      A new dict; the recurrent weights are multiplied by 0 or 1 / (1 - rate), the rest is the same.

    Raises:
      ValueError: a rate outside [0, 1), a cell without recurrent weights.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, got {rate}")
    names = [name for name in RECURRENT if name in params]
    if not names:
        raise ValueError(f"cell must have recurrent weights ({' or '.join(RECURRENT)}), got {type(cell).__name__}")
    keys = jax.random.split(key, len(names))
    return {**params, **{name: _drop(params[name], k, rate) for name, k in zip(names, keys, strict=True)}}


def _drop(weights: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, weights.shape), weights / (1 - rate), 0)
