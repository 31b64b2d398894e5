"""AdamW as the papers train recurrences: decay where it belongs, and recurrent weights kept within their bound."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxseq.experiment import Experiment
from jaxseq.sharding import is_declared


def make_optimizer(config: Experiment, declared: Any) -> optax.GradientTransformation:
    """Clipping by global norm, AdamW under the config's schedule, and the declared bounds, in that order.

    `declared` is the model's tree of `sharding.Declared` parameters, which says where decay applies and what is
    bounded. With `train.lora` the optimizer moves adapters, and holds nothing for the parameters.
    """
    o, declared = config.optim, config.train.weights.declare_trained(declared)
    decay = jax.tree.map(lambda leaf: leaf.decay, declared, is_leaf=is_declared)
    bounds = jax.tree.map(lambda leaf: jnp.inf if leaf.clip is None else leaf.clip, declared, is_leaf=is_declared)
    return optax.chain(
        optax.clip_by_global_norm(o.clip_norm),
        optax.adamw(make_schedule(config), o.b1, o.b2, o.eps, weight_decay=o.weight_decay, mask=decay),
        keep_within(bounds),
    )


def make_schedule(config: Experiment) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine down to end_fraction of the peak at train.steps."""
    o = config.optim
    warmup = min(o.warmup, config.train.steps - 1)
    return optax.warmup_cosine_decay_schedule(
        0.0, o.learning_rate, warmup, config.train.steps, o.end_fraction * o.learning_rate
    )


def keep_within(bounds: Any) -> optax.GradientTransformation:
    """Shortens updates so that every parameter entry stays in [-bound, bound], to rounding; goes last in a chain.

    `bounds` is a tree of numbers like the parameters, inf for no bound. ParaRNN (arXiv 2510.21450, section 4.3) keeps
    recurrent weights within 0.5, where Newton converges in about three iterations.
    """

    def one(bound: float, update: jax.Array, param: jax.Array) -> jax.Array:
        return update if bound == jnp.inf else jnp.clip(param + update, -bound, bound) - param

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("keep_within needs the parameters: call update(updates, state, params)")
        return jax.tree.map(one, bounds, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
