"""Parameters of a model: declared without memory, and made in place on a mesh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta
from jax.sharding import Mesh

from jaxseq.model.lm import LanguageModel
from jaxseq.sharding import shardings


def declare(model: LanguageModel) -> Any:
    """The parameters as `sharding.Declared` leaves around abstract arrays; allocates nothing."""
    return jax.eval_shape(lambda key: _init(model, key), jax.random.key(0))


def make_params(model: LanguageModel, seed: int, mesh: Mesh) -> Any:
    """Parameters (a nested dict of float32 arrays) from `seed`, each device making its own shards."""
    layout = shardings(mesh, declare(model))
    return jax.jit(lambda key: meta.unbox(_init(model, key)), out_shardings=layout)(jax.random.key(seed))


def count(params: Any) -> int:
    """The number of parameters of a tree of arrays, abstract or not."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _init(model: LanguageModel, key: jax.Array) -> Any:
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]
