"""What a run keeps of its model's parameters: what is trained, what is frozen beside it, and an average of it.

Without adapters and without an average that is the tree of parameters itself. Otherwise it is a dict of

    base   the frozen parameters, where there are adapters
    train  what the optimizer moves: the adapters, or else the parameters
    ema    the exponential moving average of `train`, where one is kept

This tree is what checkpoints hold, and its parts lie on the mesh as the parameters they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseq.model.lora import LoRA, declare_adapters, first_adapters, merge


@dataclass(frozen=True)
class Weights:
    """How a run keeps its parameters.

    Attributes:
      lora: adapters on a frozen base; rank 0 for none.
      ema: d of average ← d average + (1 - d) trained after every step, 0 for none. During the first steps d is
        (1 + step) / (10 + step) where that is smaller, so that the initial values are forgotten.

    An average costs one more float32 copy of what is trained, in memory and in checkpoints. Adapters cost the merged
    copy of their matrices while a step computes, and the gradients of those.
    """

    lora: LoRA = field(default_factory=LoRA)
    ema: float = 0.0

    def declare(self, declared: Any) -> Any:
        """The kept tree as Declared leaves, from a model's. Raises ValueError as `declare_adapters` does."""
        return self._keep(declared, self.declare_trained(declared))

    def declare_trained(self, declared: Any) -> Any:
        """What the optimizer moves, as Declared leaves, from a model's."""
        return declare_adapters(declared, self.lora) if self.lora.rank else declared

    def first(self, params: Any, declared: Any, seed: int, mesh: Mesh) -> Any:
        """The kept tree before the first step, from a model's parameters on the mesh."""
        return self._keep(params, first_adapters(declared, self.lora, seed, mesh) if self.lora.rank else params)

    def trained(self, kept: Any) -> Any:
        """What the optimizer moves."""
        return kept["train"] if self._parted else kept

    def parameters(self, kept: Any, trained: Any) -> Any:
        """The model's parameters that `trained` makes."""
        return merge(kept["base"], trained, self.lora.scale) if self.lora.rank else trained

    def moved(self, kept: Any, trained: Any, step: jax.Array) -> Any:
        """The kept tree after a step, from what the optimizer made of what is trained; `step` counts from 0."""
        if not self._parted:
            return trained
        if not self.ema:
            return {**kept, "train": trained}
        decay = jnp.minimum(self.ema, (1 + step) / (10 + step))
        average = jax.tree.map(lambda old, new: old + (1 - decay) * (new - old), kept["ema"], trained)
        return {**kept, "train": trained, "ema": average}

    def evaluated(self, kept: Any) -> Any:
        """The model's parameters for evaluation, sampling and export: of the average where there is one."""
        trained = kept["ema"] if self.ema else self.trained(kept)
        return _merged(kept["base"], trained, self.lora.scale) if self.lora.rank else trained

    @property
    def _parted(self) -> bool:
        return bool(self.lora.rank or self.ema)

    def _keep(self, params: Any, trained: Any) -> Any:
        if not self._parted:
            return params
        base = {"base": params} if self.lora.rank else {}
        average = {"ema": jax.tree.map(_copy, trained)}
        return {**base, "train": trained, **(average if self.ema else {})}


ALL_TRAINED = Weights()


_merged = jax.jit(merge)


def _copy(x: Any) -> Any:
    """Another array, as a step gives the memory of each of its own away; abstract ones have none."""
    return jnp.copy(x) if isinstance(x, jax.Array) else x
