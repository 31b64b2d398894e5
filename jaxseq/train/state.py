"""What training carries from step to step, and how it lies on the mesh."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxseq.model import LanguageModel, declare
from jaxseq.model.weights import ALL_TRAINED, Weights
from jaxseq.sharding import is_declared, replicated, shardings


class TrainState(NamedTuple):
    """step () int32: optimizer steps taken; params: the tree that `Weights` keeps, float32; opt_state: the optimizer's.

    Also the tree of their shardings, and of their abstract values.
    """

    step: Any
    params: Any
    opt_state: Any


def make_state(
    params: Any,
    model: LanguageModel,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    weights: Weights = ALL_TRAINED,
) -> TrainState:
    """The state before the first step, of what `weights` keeps of the parameters, on the mesh."""
    layout = state_shardings(model, optimizer, mesh, weights)
    opt_state = jax.jit(optimizer.init, out_shardings=layout.opt_state)(weights.trained(params))
    return TrainState(jax.device_put(jnp.zeros((), jnp.int32), layout.step), params, opt_state)


def state_shardings(
    model: LanguageModel, optimizer: optax.GradientTransformation, mesh: Mesh, weights: Weights = ALL_TRAINED
) -> TrainState:
    """The NamedSharding of every leaf: moments lie like their parameters, the rest is replicated."""
    params = shardings(mesh, weights.declare(declare(model)))
    opt_state = optax.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        abstract_state(model, optimizer, weights).opt_state,
        weights.trained(params),
        transform_non_params=lambda _: replicated(mesh),
    )
    return TrainState(replicated(mesh), params, opt_state)


def abstract_state(
    model: LanguageModel, optimizer: optax.GradientTransformation, weights: Weights = ALL_TRAINED
) -> TrainState:
    """Shapes and dtypes of a state, without memory."""
    params = jax.tree.map(lambda leaf: leaf.value, weights.declare(declare(model)), is_leaf=is_declared)
    opt_state = jax.eval_shape(optimizer.init, weights.trained(params))
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, opt_state)


def placed(abstract: Any, layout: Any) -> Any:
    """Abstract arrays that carry their shardings, as a restore wants them."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, layout)
