"""Layers one after another instead of scanned, each with arrays of its own, to read single tokens on CPU.

There a scan over layers copies a layer's weights and state out of the stacks, and the state back, for every token: with
rings of 2,048 keys that takes longer than all else (`python launch/benchmark.py decode` prints the ratio). On TPU the
layers stay stacked: a slice is part of the product that reads it, and a scan is compiled faster.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxseq.model.config import ModelConfig


def apart(config: ModelConfig, params: Any, state: Any) -> tuple[Any, Any]:
    """A model's parameters (unboxed) and state (as `init_state`'s) with arrays of its own for every layer, copied.

    The model takes either form. The new state is a list with one entry per repeat of the pattern: `init_state`'s, but
    for the axis of the repeats. The new parameters have `layers_0`, `layers_1`, ... for `layers`.
    """
    if config.shared_layers:
        return params, _taken_apart(state, config.repeats)
    layers, states = zip(*_taken_apart((params["layers"], state), config.repeats), strict=True)
    rest = {name: value for name, value in params.items() if name != "layers"}
    return rest | {f"layers_{i}": layer for i, layer in enumerate(layers)}, list(states)


def for_single_tokens(config: ModelConfig, params: Any, state: Any) -> tuple[Any, Any]:
    """The form in which this process's platform reads single tokens: on CPU `apart`, else what was given."""
    return apart(config, params, state) if jax.default_backend() == "cpu" else (params, state)


def _taken_apart(tree: Any, count: int) -> list[Any]:
    return jax.jit(lambda tree: [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(count)])(tree)
