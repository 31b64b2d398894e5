"""How probable given texts are to a model: log-likelihoods of continuations, in batches of texts of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.data import Tokenizer
from jaxseq.model import LanguageModel
from jaxseq.model.block import make_mixer
from jaxseq.model.loss import token_nats

CHUNK = 2048  # most tokens of a row in one call


class Likelihood(NamedTuple):
    """log_probability: natural logarithm, summed over the tokens of a text; greedy: each was the most probable one."""

    log_probability: float
    greedy: bool


class Text(NamedTuple):
    """Ids (n,) int32 that begin with `bos`, of which those from `start` on are judged."""

    ids: np.ndarray
    start: int


def split(tokenizer: Tokenizer, context: str, continuation: str) -> Text:
    """`context` + `continuation` as one text, of which the continuation is judged.

    It is tokenised as a whole, as in training; a token that reaches over the border is judged.
    """
    before = len(context.encode())
    ids = tokenizer.encode((context + continuation).encode())
    ends = np.cumsum(np.asarray(tokenizer.token_bytes)[ids])
    return Text(ids, max(1, int(np.searchsorted(ends, before, side="right"))))


def likelihoods(
    model: LanguageModel, params: Any, texts: Sequence[Text], *, vocab: int, batch: int = 16, chunk: int = CHUNK
) -> list[Likelihood]:
    """The likelihood of every text's judged tokens given all that stands before them, in the order of `texts`.

    Texts of like length share a batch and are padded on the right, where nothing is read; long ones go in chunks with
    the recurrent state carried, so there is no longest text. The probabilities are over all of the model's ids.

    Args:
      model, params: a language model.
      texts: as `split` makes them; one with nothing to judge has log-probability 0 and is greedy.
      vocab: the tokenizer's; ids from it on are never the most probable ones, as in `generate`.
      batch: rows at a time.
      chunk: most tokens of a row at a time.

    Raises:
      ValueError: batch or chunk below 1; a text longer than an attention layer without a window can see.
    """
    for name, value in (("batch", batch), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    _check_context(model, texts)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i].ids))
    found: list[Likelihood] = [Likelihood(0.0, True)] * len(texts)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        made = _batch(model, params, [texts[i] for i in rows], vocab, batch, chunk)
        for i, likelihood in zip(rows, made, strict=False):
            found[i] = likelihood
    return found


def _batch(
    model: LanguageModel, params: Any, texts: Sequence[Text], vocab: int, rows: int, chunk: int
) -> list[Likelihood]:
    state, total, greedy = model.init_state(rows), np.zeros(rows), np.ones(rows, bool)
    longest = max(len(text.ids) for text in texts) - 1
    limit = min(chunk, _context(model) or chunk)
    for start in range(0, longest, limit):
        width = min(limit, max(16, 1 << (longest - start - 1).bit_length()))  # few widths, so few compilations
        window = _window(texts, rows, start, width)
        state, nats, right = _read(model.apply, params, state, *window, vocab)
        total, greedy = total - np.asarray(nats, np.float64), greedy & np.asarray(right)
    return [Likelihood(float(x), bool(g)) for x, g in zip(total, greedy, strict=True)]


def _window(texts: Sequence[Text], rows: int, start: int, width: int) -> tuple[np.ndarray, ...]:
    """Inputs and targets (rows, width) int32, which inputs are there and which targets are judged, bool."""
    inputs, targets = np.zeros((rows, width), np.int32), np.zeros((rows, width), np.int32)
    mask, judged = np.zeros((rows, width), bool), np.zeros((rows, width), bool)
    for row, (ids, first) in enumerate(texts):
        part = ids[start : start + width + 1]
        n = max(len(part) - 1, 0)
        inputs[row, :n], targets[row, :n], mask[row, :n] = part[:n], part[1 : n + 1], True
        judged[row, :n] = np.arange(start + 1, start + n + 1) >= first
    return inputs, targets, mask, judged


@partial(jax.jit, static_argnames=("apply", "vocab"), donate_argnames="state")
def _read(apply, params, state, inputs, targets, mask, judged, vocab):
    """The state after a window, the nats of its judged targets (B,), and whether each was the most probable id (B,)."""
    logits, state = apply({"params": params}, inputs, state=state, mask=mask)
    nats, _ = token_nats(logits, targets)
    best = jnp.argmax(jnp.where(jnp.arange(logits.shape[-1]) < vocab, logits, -jnp.inf), axis=-1)
    right = jnp.all((best == targets) | ~judged, axis=1)
    return state, jnp.sum(jnp.where(judged, nats, 0), axis=1), right


def _context(model: LanguageModel) -> int | None:
    """The longest text that the model can read, None where there is no limit."""
    if "attention" not in model.config.pattern:
        return None
    mixer: Any = make_mixer(model.config, "attention", parent=None)
    return mixer.context if mixer.window is None else None


def _check_context(model: LanguageModel, texts: Sequence[Text]) -> None:
    longest, context = max((len(text.ids) for text in texts), default=0) - 1, _context(model)
    if context is not None and longest > context:
        raise ValueError(
            f"model.options.attention.context = {context} must be at least the longest text's {longest} tokens; "
            "shorten it, or train with a window"
        )
