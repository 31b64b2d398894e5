"""Every mixer's size, state and speed, and the same weights in transformers' class beside it, where it has one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from jaxseq.benchmark.mixers_jax import PEERS as JAX_PEERS
from jaxseq.benchmark.mixers_jax import beside_jax
from jaxseq.benchmark.mixers_peers import NO_CACHE, PEERS, VOCAB, WIDTH
from jaxseq.benchmark.timing import device, medians, seconds, square_matmul
from jaxseq.convert import load_model
from jaxseq.convert.verify import compare
from jaxseq.mixers import MIXERS
from jaxseq.model import LanguageModel, ModelConfig, count
from jaxseq.model.apart import for_single_tokens
from jaxseq.model.loss import cross_entropy

BATCH, TIME, DECODED, ROUNDS = 2, 1024, 64, 5
SLOW = 20.0  # seconds of one call, after which another does not say more


def mixers(mixer: str | None = None) -> Iterator[dict[str, Any]]:
    """One row per mixer (or for `mixer` alone), float32, a few layers of width 256: parameters, decode-state bytes per
    layer and sequence, and tokens per second forward and backward at (2, 1024) tokens.

    Where transformers has a model with it (it and torch must be installed): its class, the largest deviation of logits
    with its weights, and how many times faster we are forward and backward, and per decoded token at batch 1; medians
    taken in turn, with as many threads on both sides. And how many times faster than the class any code could train
    that does the products of weights and tokens, 6 FLOPs per weight and token, at the rate of a 2048³ float32 matmul
    timed in turn, and all else in no time. Then a row beside the authors' JAX code, if that is on the path.
    """
    if mixer is not None and mixer not in MIXERS:
        raise ValueError(f"mixer must be one of {', '.join(MIXERS)}, got {mixer!r}")
    for name in MIXERS if mixer is None else [mixer]:
        yield _beside(name) if name in PEERS else _alone(name)
        if name in JAX_PEERS:
            yield from beside_jax(name)


def trained(model: LanguageModel, params: Any) -> Callable[[], Any]:
    """Loss and gradients at (BATCH, TIME) tokens."""
    tokens = jnp.asarray(_tokens())

    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply({"params": params}, tokens[:, :-1])
        found = cross_entropy(logits, tokens[:, 1:], jnp.ones(tokens[:, 1:].shape))
        return found.nats / found.weight

    run = jax.jit(jax.value_and_grad(loss))
    return lambda: run(params)


def decoded(model: LanguageModel, params: Any) -> Callable[[], Any]:
    """DECODED greedy tokens, one call of the model each, as `generate` does it."""
    params, start = for_single_tokens(model.config, params, model.init_state(1))

    @partial(jax.jit, donate_argnames="state")
    def step(params: Any, state: Any, token: jax.Array) -> tuple[Any, jax.Array]:
        logits, state = model.apply({"params": params}, token[:, None], state=state)
        return state, jnp.argmax(logits[:, 0], axis=-1)

    def run() -> jax.Array:
        state, token = jax.tree.map(jnp.copy, start), jnp.zeros(1, jnp.int32)
        for _ in range(DECODED):
            state, token = step(params, state, token)
        return token

    return run


def _alone(name: str) -> dict[str, Any]:
    model = LanguageModel(ModelConfig(vocab=VOCAB, width=WIDTH, pattern=(name,), residual_scale=False))
    params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
    return _head(model, params) | _speed(medians({"train": trained(model, params)}, ROUNDS)["train"])


def _beside(name: str) -> dict[str, Any]:
    import torch
    import transformers

    torch.manual_seed(0)
    module = PEERS[name](transformers)
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        model, params = load_model(Path(folder))
        params = jax.device_put(params)
        deviation = next(compare(Path(folder), model, params)).found
    theirs = _of_torch(module, torch)
    product, operations = square_matmul()
    train = _in_turn({"theirs": theirs["train"], "ours": trained(model, params), "product": product})
    products = 6.0 * _multiplied(model, params) * BATCH * TIME * train["product"] / operations
    row = {
        **_head(model, params),
        **_speed(train["ours"]),
        "class": type(module).__name__,
        "deviation": float(f"{deviation:.1e}"),
        "faster_training": round(train["theirs"] / train["ours"], 2),
        "fastest_training": round(train["theirs"] / products, 2),
    }
    if name in NO_CACHE:
        return row
    decode = _in_turn({"theirs": theirs["decode"], "ours": decoded(model, params)})
    return row | {"faster_decoding": round(decode["theirs"] / decode["ours"], 2)}


def _multiplied(model: LanguageModel, params: Any) -> int:
    """Weights that every token is multiplied by: all but an embedding that is not the head too."""
    return count(params) - (0 if model.config.tied else params["embedding"].size)


def _in_turn(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Medians of calls in a row, after a first one that does not count; of fewer where that is slow."""
    slow = max(seconds(function) for function in functions.values()) > SLOW
    return medians(functions, 1 if slow else ROUNDS, uncounted=0, again=not slow)


def _head(model: LanguageModel, params: Any) -> dict[str, Any]:
    config = model.config
    state = sum(x.nbytes for x in jax.tree.leaves(model.init_state(1)[0])) // config.repeats
    row = {"benchmark": "mixers", "mixer": "+".join(config.pattern), "device": device()}
    return row | {"parameters": count(params), "state_bytes": state}


def _of_torch(module: Any, torch: Any) -> dict[str, Callable[[], Any]]:
    tokens = torch.from_numpy(_tokens().astype(np.int64))
    first = torch.zeros((1, 1), dtype=torch.int64)
    options = {"max_new_tokens": DECODED, "min_new_tokens": DECODED, "do_sample": False, "eos_token_id": None}

    def train() -> float:
        module.train().zero_grad()
        loss = module(input_ids=tokens[:, :-1], labels=tokens[:, :-1], use_cache=False).loss
        loss.backward()
        return loss.item()

    def decode() -> Any:
        with torch.no_grad():
            return module.eval().generate(first, attention_mask=torch.ones_like(first), **options)

    return {"train": train, "decode": decode}


def _speed(seconds: float) -> dict[str, Any]:
    return {"tokens_per_second": round(BATCH * TIME / seconds)}


def _tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCAB, (BATCH, TIME + 1)).astype(np.int32)
