"""Text from a language model: one parallel pass over the prompts, then one token at a time from the recurrent state.

The pass over the prompts and the loop call the same mixers. What is kept between tokens is `model.init_state(B)`, so
memory does not grow with the text, and one compiled program serves all its tokens.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.data import ByteTokenizer, TextStream, Tokenizer
from jaxseq.evaluate import worst_solves
from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.model.apart import for_single_tokens
from jaxseq.model.block import make_mixer

CHUNK = 2048  # most prompt tokens of a row in one call


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The limits apply in this order: temperature, top_k, top_p.

    Attributes:
      temperature: divides the logits; 0 takes the most probable token (the lowest id of equals).
      top_k: keep only the k most probable tokens; None keeps all.
      top_p: keep only the smallest set of most probable tokens whose probability reaches p (nucleus sampling, Holtzman
        et al. 2019, arXiv 1904.09751, section 3.1), at least one; None keeps all.
      seed: of the random numbers.

    Raises ValueError: a negative temperature, top_k below 1, top_p outside (0, 1].
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, or None, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], or None, got {self.top_p}")


def sample(logits: jax.Array, key: jax.Array, sampling: Sampling, allowed: int) -> jax.Array:
    """One token id for every row, or -1 where a row's logits cannot be sampled from.

    Args:
      logits: (B, vocab) float; taken as float32.
      key: (B,) random keys, one for each row, so that no row depends on another. `sampling.seed` is not read here.
      sampling: see the class; static under jit.
      allowed: ids from this on are never drawn (the padding of the vocabulary); static under jit.

    Returns:
      (B,) int32. -1 marks a row whose largest allowed logit is not finite: a NaN or +inf among them, or all -inf.
    """
    logits = jnp.where(jnp.arange(logits.shape[-1]) < allowed, logits.astype(jnp.float32), -jnp.inf)
    sound = jnp.isfinite(jnp.max(logits, axis=-1))
    if sampling.temperature == 0:
        ids = jnp.argmax(logits, axis=-1)
    else:
        ids = jax.vmap(jax.random.categorical)(key, _limit(logits / sampling.temperature, sampling))
    return jnp.where(sound, ids, -1).astype(jnp.int32)


def _limit(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """The logits (B, vocab) with -inf where top_k or top_p leave a token out."""
    count = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    if count == logits.shape[-1] and sampling.top_p in (None, 1):
        return logits
    values, ids = jax.lax.top_k(logits, count)
    if sampling.top_p not in (None, 1):
        p = jax.nn.softmax(values, axis=-1)
        values = jnp.where(jnp.cumsum(p, axis=-1) - p < sampling.top_p, values, -jnp.inf)
    # Back in order of ids: the noise then belongs to a token, and a rounding error cannot exchange that of two others.
    rows = jnp.arange(logits.shape[0])[:, None]
    return jnp.full_like(logits, -jnp.inf).at[rows, ids].set(values)


def generate(
    model: LanguageModel,
    params: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[bytes],
    *,
    max_tokens: int,
    sampling: Sampling,
    on_token: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """Continues every prompt until the model ends the document (draws `bos`) or `max_tokens` tokens are drawn.

    The random numbers of a row come from the seed, its prompt, and how many equal prompts stand before it. So its text
    does not depend on what else is in the batch (but for logits that differ by a rounding error), and equal prompts
    get different texts.

    Args:
      model: a language model whose vocabulary holds the tokenizer's.
      params: its parameters, unboxed.
      tokenizer: bytes to ids and back.
      prompts: one for each row, of any lengths; b"" starts from `bos` alone. Prompts are read in chunks of at most
        2,048 tokens.
      max_tokens: tokens drawn per row at most, the closing `bos` included.
      sampling: see `Sampling`.
      on_token: called with (row, id) for every token of the answer as soon as it is known; not for `bos`.

    Returns:
      The continuations, without the prompts.

    Raises:
      ValueError: no prompts or not bytes, max_tokens below 1, a tokenizer too large for the model, or more tokens than
        an attention layer without a window can see (`model.options.attention.context`).
      FloatingPointError: logits that are not finite, naming the prompt and the token.

    Warns:
      RuntimeWarning: a nonlinear mixer's solver did not converge on a prompt, so the answer may be inexact.
    """
    _check(model.config, tokenizer, prompts, max_tokens)
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    _check_context(model.config, encoded, max_tokens)
    params, state = for_single_tokens(model.config, params, _read(model, params, encoded))
    answers: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    for index, ids in enumerate(_draw(model, params, state, tokenizer, encoded, max_tokens, sampling)):
        for row in sorted(running):
            if ids[row] < 0:
                raise FloatingPointError(f"logits must be finite, got NaN or inf at token {index} of prompt {row}")
            if ids[row] == tokenizer.bos:
                running.remove(row)
                continue
            answers[row].append(int(ids[row]))
            if on_token is not None:
                on_token(row, int(ids[row]))
        if not running:
            break
    return [tokenizer.decode(answer) for answer in answers]


def print_answers(
    model: LanguageModel,
    params: Any,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    sampling: Sampling,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Prints each prompt with its continuation, see `generate`: a single one token by token as they are drawn.

    Tokens are bytes unless a tokenizer is given.
    """
    tokenizer = tokenizer or ByteTokenizer()
    stream = TextStream(tokenizer)
    alone = len(prompts) == 1
    if alone:
        print(prompts[0], end="", flush=True)

    def show(row: int, token: int) -> None:
        if alone:
            print(stream.push([token]), end="", flush=True)

    encoded = [prompt.encode() for prompt in prompts]
    answers = generate(model, params, tokenizer, encoded, max_tokens=max_tokens, sampling=sampling, on_token=show)
    if alone:
        print(stream.end())
        return
    for prompt, answer in zip(prompts, answers, strict=True):
        print(f"{prompt}{answer.decode(errors='replace')}\n{'-' * 40}")


def _draw(
    model: LanguageModel,
    params: Any,
    state: Any,
    tokenizer: Tokenizer,
    encoded: list[np.ndarray],
    max_tokens: int,
    sampling: Sampling,
) -> Iterator[np.ndarray]:
    """The ids (B,) drawn at every step. A step is launched before the one before it is read, so devices do not wait."""
    keys = _row_keys(encoded, sampling.seed)
    token = jnp.asarray([ids[-1] for ids in encoded], jnp.int32)
    rule = replace(sampling, seed=0)  # static: one program for all seeds
    previous = None
    for index in range(max_tokens):
        token, state = decode_step(model.apply, params, state, token, keys, index, rule, tokenizer.vocab)
        if previous is not None:
            yield np.asarray(previous)
        previous = token
    yield np.asarray(previous)


@partial(jax.jit, static_argnames=("apply", "sampling", "allowed"), donate_argnames="state")
def decode_step(apply, params, state, token, keys, index, sampling, allowed):
    """One token in, one token out: ids (B,) and the state after reading `token` (B,)."""
    logits, state = apply({"params": params}, token[:, None], state=state)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    return sample(logits[:, 0], keys, sampling, allowed), state


@partial(jax.jit, static_argnames="apply", donate_argnames="state")
def advance(apply, params, state, tokens, mask):
    """The state after tokens (B, T), and the fraction solved. The logits are not used, so XLA leaves the head out."""
    (_, state), aside = apply({"params": params}, tokens, state=state, mask=mask, mutable=["diagnostics"])
    return state, worst_solves(aside)[0]


def _read(model: LanguageModel, params: Any, encoded: list[np.ndarray], chunk: int = CHUNK) -> Any:
    """The state after all but the last token of every prompt: that one is the first that `decode_step` reads."""
    state = model.init_state(len(encoded))
    context = _context(model.config)
    limit = chunk if context is None else min(chunk, context)
    longest = max(len(ids) for ids in encoded) - 1
    start, solved = 0, []
    while start < longest:
        width = min(limit, max(16, 1 << (longest - start - 1).bit_length()))  # few widths, so few compilations
        tokens = np.zeros((len(encoded), width), np.int32)
        mask = np.zeros((len(encoded), width), bool)
        for row, ids in enumerate(encoded):
            part = ids[:-1][start : start + width]
            tokens[row, : len(part)], mask[row, : len(part)] = part, True
        state, converged = advance(model.apply, params, state, tokens, mask)
        solved.append(converged)
        start += width
    if any(not float(x) >= 1 for x in solved):
        warnings.warn("solver did not converge on a prompt: the answer may be inexact", RuntimeWarning, stacklevel=3)
    return state


def _row_keys(encoded: list[np.ndarray], seed: int) -> jax.Array:
    """(B,) keys from the seed, the prompt and the number of equal prompts before it."""
    texts = [ids.tobytes() for ids in encoded]
    names = jnp.asarray([zlib.crc32(text) for text in texts], jnp.uint32)
    copies = jnp.asarray([texts[:row].count(text) for row, text in enumerate(texts)], jnp.uint32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), names)
    return jax.vmap(jax.random.fold_in)(keys, copies)


def _context(config: ModelConfig) -> int | None:
    """The longest document that the model can read, None where there is no limit."""
    if "attention" not in config.pattern:
        return None
    mixer: Any = make_mixer(config, "attention", parent=None)
    return mixer.context if mixer.window is None else None


def _check(config: ModelConfig, tokenizer: Tokenizer, prompts: Sequence[bytes], max_tokens: int) -> None:
    if isinstance(prompts, (bytes, str)) or not all(isinstance(prompt, bytes) for prompt in prompts):
        raise ValueError(f"prompts must be a sequence of bytes, got {prompts!r}")
    if not prompts:
        raise ValueError("prompts must hold at least one prompt, got none")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    if tokenizer.vocab > config.vocab:
        raise ValueError(f"model.vocab = {config.vocab} must hold the tokenizer's {tokenizer.vocab} ids")


def _check_context(config: ModelConfig, encoded: list[np.ndarray], max_tokens: int) -> None:
    """The last token drawn is never read, so n tokens and m to draw need n + m - 1 places."""
    context, longest = _context(config), max(len(ids) for ids in encoded)
    if context is not None and longest + max_tokens - 1 > context:
        raise ValueError(
            f"model.options.attention.context = {context} must be at least the longest prompt's {longest} tokens + "
            f"max_tokens - 1 = {longest + max_tokens - 1}; shorten either, or train with a window"
        )
