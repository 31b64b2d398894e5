"""Time per generated token against the number of tokens before it, and memory that does not grow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from jaxseq.benchmark.timing import device
from jaxseq.model import LanguageModel, ModelConfig

PATTERNS: dict[str, dict[str, Any]] = {
    "para_rnn": {"pattern": ("para_rnn",)},
    "lru": {"pattern": ("lru",)},
    "attention, window 256": {"pattern": ("attention",), "options": {"attention": {"window": 256}}},
}


def decode(tokens: int = 100_000) -> Iterator[dict[str, Any]]:
    """One row per mixer: microseconds per token in the first and the last thousand of `tokens` steps (batch 1,
    width 128, 2 layers, greedy), bytes of state, and over 2,000 tokens the largest deviation of the step-by-step
    logits from those of one parallel pass, and whether every greedy token agrees.
    """
    for name, fields in PATTERNS.items():
        model = LanguageModel(ModelConfig(**fields))
        params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
        step = jax.jit(lambda state, token, model=model, params=params: _step(model, params, state, token))
        times = _run(step, model.init_state(1), tokens)
        yield {
            "benchmark": "decode",
            "mixer": name,
            "device": device(),
            "tokens": tokens,
            "first_us_per_token": round(1e6 * float(np.median(times[10:1000])), 1),
            "last_us_per_token": round(1e6 * float(np.median(times[-1000:])), 1),
            "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(model.init_state(1))),
            **_deviation(model, params, step),
        }


def _step(model: LanguageModel, params: Any, state: Any, token: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    logits, state = model.apply({"params": params}, token[:, None], state=state)
    return state, jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32), logits[:, 0]


def _run(step: Any, state: Any, tokens: int) -> np.ndarray:
    token, times = jnp.zeros(1, jnp.int32), np.zeros(tokens)
    for index in range(tokens):
        began = time.perf_counter()
        state, token, _ = step(state, token)
        token.block_until_ready()
        times[index] = time.perf_counter() - began
    return times


def _deviation(model: LanguageModel, params: Any, step: Any, length: int = 2000) -> dict[str, Any]:
    state, token, inputs, stepped = model.init_state(1), jnp.zeros(1, jnp.int32), [], []
    for _ in range(length):
        inputs.append(token)
        state, token, logits = step(state, token)
        stepped.append(logits)
    parallel = jax.jit(lambda tokens: model.apply({"params": params}, tokens)[0])(jnp.stack(inputs, axis=1))
    difference = jnp.abs(parallel - jnp.stack(stepped, axis=1))
    agree = jnp.argmax(parallel, axis=-1) == jnp.argmax(jnp.stack(stepped, axis=1), axis=-1)
    return {"logit_deviation": float(jnp.max(difference)), "greedy_tokens_that_agree": f"{int(agree.sum())}/{length}"}
