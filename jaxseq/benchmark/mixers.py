"""Every mixer's size, state and speed, and the same weights in transformers' class beside it, where it has one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from jaxseq.benchmark.timing import device, medians
from jaxseq.convert.hf import write_hf
from jaxseq.convert.verify import compare
from jaxseq.mixers import MIXERS
from jaxseq.model import LanguageModel, ModelConfig, count
from jaxseq.model.loss import cross_entropy

BATCH, TIME, DECODED, ROUNDS = 2, 1024, 64, 3
COMMON = {"vocab": 256, "width": 256, "residual_scale": False}
# Models that a class of transformers has too; a mixer that is not here is measured with the defaults of ModelConfig.
MODELS: dict[str, dict[str, Any]] = {
    "mamba": {"pattern": ("mamba",), "mlp_width": 0, "tied": True},
    "mamba2": {"pattern": ("mamba2",), "mlp_width": 0, "options": {"mamba2": {"norm_eps": 1e-6}}},
    "mlstm": {"pattern": ("mlstm",), "logit_cap": 30.0},
    "rwkv4": {
        "pattern": ("rwkv4", "channel_mix"),
        "layers": 4,
        "options": {"rwkv4": {"out_gain": 1.0}, "channel_mix": {"version": 4, "out_gain": 1.0}},
        "mlp_width": 0,
        "norm": "layer",
        "norm_eps": 1e-5,
        "embedding_norm": True,
    },
    "rg_lru": {
        "pattern": ("rg_lru", "attention"),
        "options": {
            "rg_lru": {"heads": 4},
            "attention": {"heads": 4, "kv_heads": 1, "window": 256, "rope_fraction": 0.5, "out_bias": True},
        },
        "mlp": "geglu",
        "mlp_bias": True,
        "tied": True,
        "embedding_scale": 16.0,
        "logit_cap": 30.0,
    },
    "short_conv": {
        "pattern": ("short_conv", "attention"),
        "options": {"attention": {"heads": 4, "qk_norm": True}},
        "tied": True,
    },
}


def mixers(mixer: str | None = None) -> Iterator[dict[str, Any]]:
    """One row per mixer (or for `mixer` alone), float32, two layers of width 256: parameters, decode-state bytes per
    layer and sequence, and tokens per second forward and backward at (2, 1024) tokens.

    Where transformers has the class (it and torch must be installed): its name, the largest deviation of logits, and
    how many times faster we are forward and backward, and per decoded token at batch 1; medians taken in turn, with as
    many threads on both sides.
    """
    if mixer is not None and mixer not in MIXERS:
        raise ValueError(f"mixer must be one of {', '.join(MIXERS)}, got {mixer!r}")
    for name in MIXERS if mixer is None else [mixer]:
        config = ModelConfig(**{"pattern": (name,), **COMMON, **MODELS.get(name, {})})
        model = LanguageModel(config)
        params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
        row = {
            "benchmark": "mixers",
            "mixer": "+".join(config.pattern),
            "device": device(),
            "parameters": count(params),
        }
        row["state_bytes"] = sum(x.nbytes for x in jax.tree.leaves(model.init_state(1)[0])) // config.repeats
        ours = {"train": trained(model, params), "decode": decoded(model, params)}
        yield row | (_beside(model, params, ours) if name in MODELS else _alone(ours))


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

    @jax.jit
    def step(state: Any, token: jax.Array) -> tuple[Any, jax.Array]:
        logits, state = model.apply({"params": params}, token[:, None], state=state)
        return state, jnp.argmax(logits[:, 0], axis=-1)

    def run() -> jax.Array:
        state, token = model.init_state(1), jnp.zeros(1, jnp.int32)
        for _ in range(DECODED):
            state, token = step(state, token)
        return token

    return run


def _alone(ours: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    return _speed(medians({"train": ours["train"]}, ROUNDS)["train"])


def _beside(model: LanguageModel, params: Any, ours: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        architecture = write_hf(Path(folder), model.config, params)
        deviation = next(compare(Path(folder), model, params)).found
        module = AutoModelForCausalLM.from_pretrained(folder)
    theirs = _of_torch(module, torch)
    train = medians({"ours": ours["train"], "theirs": theirs["train"]}, ROUNDS)
    decode = medians({"ours": ours["decode"], "theirs": theirs["decode"]}, ROUNDS)
    return {
        **_speed(train["ours"]),
        "class": architecture.name,
        "deviation": float(f"{deviation:.1e}"),
        "faster_training": round(train["theirs"] / train["ours"], 2),
        "faster_decoding": round(decode["theirs"] / decode["ours"], 2),
    }


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
    return np.random.default_rng(0).integers(0, COMMON["vocab"], (BATCH, TIME + 1)).astype(np.int32)
