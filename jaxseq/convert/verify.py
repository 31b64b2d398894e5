"""A converted model beside the one it came from: logits of random and padded batches, and greedy decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.convert.torch_folder import is_torch
from jaxseq.model import LanguageModel

ROWS, TIME, PROMPT, NEW = 2, 24, 8, 64
FLOAT32, BFLOAT16 = 1e-4, 2e-2  # what logits may deviate by


class Deviation(NamedTuple):
    """One comparison: what, the largest deviation found, and what it may be."""

    what: str
    found: float
    allowed: float

    def __str__(self) -> str:
        sign = "" if self.passed else "  TOO LARGE"
        return f"{self.what:<40} {self.found:.1e} (at most {self.allowed:.0e}){sign}"

    @property
    def passed(self) -> bool:
        """Whether it is small enough; NaN is not."""
        return self.found <= self.allowed


def compare(folder: Path, model: LanguageModel, params: Any) -> Iterator[Deviation]:
    """Our model and the one that transformers, or the code in it, loads from `folder`.

    In float32, the largest deviation of logits, relative to the largest one, of random tokens and of a batch padded on
    the right; and how many of NEW greedily chosen tokens differ, each side carrying its own state. In bfloat16, which
    both round in their own way, how far our logits are from theirs in float32 (root mean square, relative): not above
    BFLOAT16, or twice as far as their own in bfloat16.
    """
    vocab = model.config.vocab
    tokens = np.random.default_rng(0).integers(0, vocab, (ROWS, TIME))
    mask = np.arange(TIME) < np.array([[TIME // 2], [TIME]])
    theirs, ours = load(folder, "float32"), _ours(model, params, "float32")
    exact = theirs.logits(tokens)
    yield Deviation("float32, logits", _largest(ours(tokens), exact), FLOAT32)
    padded = ours(tokens, mask)[mask], theirs.logits(tokens, mask)[mask]
    yield Deviation("float32, logits of a padded batch", _largest(*padded), FLOAT32)
    prompt = tokens[:1, :PROMPT]
    different = np.sum(greedy(model, params, prompt) != theirs.greedy(prompt))
    yield Deviation(f"float32, of {NEW} greedy tokens differ", float(different), 0)
    rounded = _typical(load(folder, "bfloat16").logits(tokens), exact)
    found = _typical(_ours(model, params, "bfloat16")(tokens), exact)
    yield Deviation("bfloat16, logits from float32", found, max(BFLOAT16, 2 * rounded))


def greedy(model: LanguageModel, params: Any, prompt: np.ndarray, new: int = NEW) -> np.ndarray:
    """The `new` most probable tokens after a prompt (1, T), one after another with the state carried."""

    @jax.jit
    def run(params: Any, tokens: jax.Array) -> jax.Array:
        logits, state = model.apply({"params": params}, tokens, state=model.init_state(1))

        def step(carry: Any, _: Any) -> Any:
            state, token = carry
            logits, state = model.apply({"params": params}, token[:, None], state=state)
            return (state, jnp.argmax(logits[:, -1], axis=-1)), token[0]

        return jax.lax.scan(step, (state, jnp.argmax(logits[:, -1], axis=-1)), length=new)[1]

    return np.asarray(run(params, jnp.asarray(prompt)))


def _ours(model: LanguageModel, params: Any, dtype: str) -> Callable[..., np.ndarray]:
    cast: Any = LanguageModel(replace(model.config, dtype=dtype))
    run = jax.jit(partial(cast.apply, {"params": params}))
    return lambda tokens, mask=None: np.asarray(run(jnp.asarray(tokens), mask=mask)[0], np.float64)


class _Theirs:
    """A model of transformers, in evaluation mode."""

    def __init__(self, module: Any):
        self._module = module.eval()

    def logits(self, tokens: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Float64 logits of tokens (B, T)."""
        import torch

        with torch.no_grad():
            mask_given = {} if mask is None else {"attention_mask": torch.from_numpy(mask.astype(np.int64))}
            found = self._module(torch.from_numpy(tokens), use_cache=False, **mask_given).logits
        return found.double().numpy()

    def greedy(self, prompt: np.ndarray) -> np.ndarray:
        """The NEW tokens that `generate` chooses."""
        import torch

        tokens = torch.from_numpy(prompt)
        options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
        kinds = getattr(self._module.config, "layer_types", None)
        if kinds and set(kinds) == {"linear_attention"}:  # of such a cache `generate` asks a length that it has not
            options["use_cache"] = False
        with torch.no_grad():
            found = self._module.generate(tokens, attention_mask=torch.ones_like(tokens), **options)
        return found[0, prompt.shape[1] :].numpy()


class _Plain:
    """A model of `modeling_jaxseq`."""

    def __init__(self, module: Any):
        self._module = module

    def logits(self, tokens: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Float64 logits of tokens (B, T)."""
        import torch

        with torch.no_grad():
            found, _ = self._module(torch.from_numpy(tokens), mask=None if mask is None else torch.from_numpy(mask))
        return found.double().numpy()

    def greedy(self, prompt: np.ndarray) -> np.ndarray:
        """The NEW tokens that `generate` chooses."""
        import torch

        return self._module.generate(torch.from_numpy(prompt), NEW, drawn=self._module.model["vocab"])[0].numpy()


def load(folder: Path, dtype: str) -> _Theirs | _Plain:
    """The model of a folder in PyTorch, by transformers or by the code that is in it."""
    import torch

    if is_torch(folder):
        from jaxseq.convert import modeling_jaxseq

        return _Plain(modeling_jaxseq.load(folder, getattr(torch, dtype)))
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()  # its warnings are of kernels that it does without
    logging.disable_progress_bar()
    return _Theirs(AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)))


def _typical(value: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(value - expected)) / np.mean(np.square(expected))))


def _largest(value: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))
