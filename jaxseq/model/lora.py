"""LoRA: a frozen matrix W plus a trained one of low rank (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    W' = W + (alpha / rank) A B,    W (..., in, out), A (..., in, rank), B (..., rank, out)

A is drawn from N(0, 1 / in) and B is zero, so that training starts at W. The paper's W x is our x W: its A and B are
our A and B transposed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.sharding import Declared, dotted, named, shardings

NOT_ROWS = ("layers", "gate", "conv")  # an axis before the last one that makes a stack of vectors, not a matrix


@dataclass(frozen=True)
class LoRA:
    """Which matrices get an adapter, and of what size.

    A parameter with more than two axes is a stack of matrices, each (its last two axes) with an adapter of its own:
    gates, heads and layers are not mixed. Bounded parameters (recurrent weights) never get one: their sum with an
    adapter would leave the bound.

    Attributes:
      rank: of the adapters; 0 for none, when all parameters are trained.
      alpha: over `rank`, the factor on A B.
      targets: regular expressions, searched in the dotted names of parameters ("layers.block_0.mixer.w_x"); every
        matrix that one of them finds gets an adapter. Empty: every matrix of mixers and MLPs that weight decay applies
        to.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"train.lora.rank must be at least 0, got {self.rank}")
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"train.lora.alpha must be positive and finite, got {self.alpha}")
        for target in self.targets:
            _check_pattern(target)

    @property
    def scale(self) -> float:
        """The factor on A B."""
        return self.alpha / self.rank


def declare_adapters(declared: Any, lora: LoRA) -> dict[str, dict[str, Declared]]:
    """The adapters {name: {"a", "b"}} of a declared model, abstract: each lies like its matrix, its rank axis whole.

    Raises ValueError for a target that finds no matrix, and where there is none at all.
    """
    matrices = {name: leaf for name, leaf in named(declared).items() if _is_matrix(leaf)}
    for target in lora.targets:
        if not any(re.search(target, name) for name in matrices):
            raise ValueError(f"train.lora.targets: {target!r} must find a matrix, the names are {', '.join(matrices)}")
    adapters = {name: _adapter(leaf, lora.rank) for name, leaf in matrices.items() if _is_target(name, leaf, lora)}
    if not adapters:
        raise ValueError("train.lora.rank must be 0 for a model without matrices in its mixers and MLPs")
    return adapters


def first_adapters(declared: Any, lora: LoRA, seed: int, mesh: jax.sharding.Mesh) -> dict[str, dict[str, jax.Array]]:
    """Adapters before the first step, float32 on the mesh: A from the seed and its matrix's place, B zero."""
    wanted = declare_adapters(declared, lora)

    def make(key: jax.Array) -> dict[str, dict[str, jax.Array]]:
        keys = jax.random.split(key, len(wanted))
        return {name: _draw(k, leaf) for k, (name, leaf) in zip(keys, wanted.items(), strict=True)}

    return jax.jit(make, out_shardings=shardings(mesh, wanted))(jax.random.key(seed))


def merge(params: Any, adapters: dict[str, dict[str, jax.Array]], scale: float) -> Any:
    """The parameters with every adapter's `scale` A B added to its matrix, in float32 whatever the platform."""

    def one(path: Any, w: jax.Array) -> jax.Array:
        adapter = adapters.get(dotted(path))
        if adapter is None:
            return w
        return w + scale * jnp.matmul(adapter["a"], adapter["b"], precision=jax.lax.Precision.HIGHEST)

    return jax.tree_util.tree_map_with_path(one, params)


def _is_matrix(leaf: Declared) -> bool:
    return len(leaf.axes) >= 2 and leaf.axes[-2] not in NOT_ROWS and leaf.clip is None


def _is_target(name: str, leaf: Declared, lora: LoRA) -> bool:
    if lora.targets:
        return any(re.search(target, name) for target in lora.targets)
    return leaf.decay and re.search(r"\.(mixer|mlp)\.", name) is not None


def _adapter(leaf: Declared, rank: int) -> dict[str, Declared]:
    *stack, rows, columns = leaf.value.shape
    *stack_axes, row, column = leaf.axes
    a, b = (jax.ShapeDtypeStruct((*stack, *shape), leaf.value.dtype) for shape in ((rows, rank), (rank, columns)))
    return {"a": Declared(a, (*stack_axes, row, None)), "b": Declared(b, (*stack_axes, None, column))}


def _draw(key: jax.Array, adapter: dict[str, Declared]) -> dict[str, jax.Array]:
    a, b = adapter["a"].value, adapter["b"].value
    return {"a": a.shape[-2] ** -0.5 * jax.random.normal(key, a.shape, a.dtype), "b": jnp.zeros(b.shape, b.dtype)}


def _check_pattern(target: str) -> None:
    try:
        re.compile(target)
    except re.error as error:
        raise ValueError(f"train.lora.targets: {target!r} must be a regular expression: {error}") from error
