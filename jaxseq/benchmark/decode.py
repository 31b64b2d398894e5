"""Time per generated token against the number of tokens before it, and memory that does not grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from jaxseq.benchmark.timing import device, medians
from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.model.apart import apart, for_single_tokens

PATTERNS: dict[str, dict[str, Any]] = {
    "para_rnn": {"pattern": ("para_rnn",)},
    "lru": {"pattern": ("lru",)},
    "attention, window 256": {"pattern": ("attention",), "options": {"attention": {"window": 256}}},
}
Form = tuple[Any, Any]  # parameters and state, the layers stacked or apart


def decode(tokens: int = 100_000) -> Iterator[dict[str, Any]]:
    """One row per mixer: microseconds per token in the first and the last thousand of `tokens` steps (batch 1,
    width 128, 2 layers, greedy), bytes of state, what layers take scanned over what they take apart, and over 2,000
    tokens the largest deviation of the step-by-step logits from those of one parallel pass, and whether every greedy
    token agrees.
    """
    for name, fields in PATTERNS.items():
        model = LanguageModel(ModelConfig(**fields))
        params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
        stacked = params, model.init_state(1)
        step = jax.jit(partial(_step, model), donate_argnames="state")
        chosen = for_single_tokens(model.config, *stacked)
        times = _run(step, chosen, tokens)
        yield {
            "benchmark": "decode",
            "mixer": name,
            "device": device(),
            "tokens": tokens,
            "first_us_per_token": round(1e6 * float(np.median(times[10:1000])), 1),
            "last_us_per_token": round(1e6 * float(np.median(times[-1000:])), 1),
            "scanned_over_apart": _ratio(step, stacked, apart(model.config, *stacked)),
            "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(model.init_state(1))),
            **_deviation(model, params, step, chosen),
        }


def _step(model: LanguageModel, params: Any, state: Any, token: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    logits, state = model.apply({"params": params}, token[:, None], state=state)
    return state, jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32), logits[:, 0]


def _run(step: Any, form: Form, tokens: int) -> np.ndarray:
    params, state = form[0], jax.tree.map(jnp.copy, form[1])
    token, times = jnp.zeros(1, jnp.int32), np.zeros(tokens)
    for index in range(tokens):
        began = time.perf_counter()
        state, token, _ = step(params, state=state, token=token)
        token.block_until_ready()
        times[index] = time.perf_counter() - began
    return times


def _ratio(step: Any, scanned: Form, apart: Form) -> float:
    def runs(form: Form) -> Callable[[], Any]:
        return lambda: _run(step, form, 200)

    times = medians({"scanned": runs(scanned), "apart": runs(apart)}, 5)
    return round(times["scanned"] / times["apart"], 2)


def _deviation(model: LanguageModel, params: Any, step: Any, form: Form, length: int = 2000) -> dict[str, Any]:
    (mine, state), token, inputs, stepped = form, jnp.zeros(1, jnp.int32), [], []
    for _ in range(length):
        inputs.append(token)
        state, token, logits = step(mine, state=state, token=token)
        stepped.append(logits)
    parallel = jax.jit(lambda tokens: model.apply({"params": params}, tokens)[0])(jnp.stack(inputs, axis=1))
    difference = jnp.abs(parallel - jnp.stack(stepped, axis=1))
    agree = jnp.argmax(parallel, axis=-1) == jnp.argmax(jnp.stack(stepped, axis=1), axis=-1)
    return {"logit_deviation": float(jnp.max(difference)), "greedy_tokens_that_agree": f"{int(agree.sum())}/{length}"}
