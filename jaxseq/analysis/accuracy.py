"""How often a model has the answer right, where every document ends with one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.checkpoint import read_model
from jaxseq.data import ByteTokenizer, Documents, open_data
from jaxseq.model import LanguageModel

BATCH = 100


def answers_right(workdir: str, split: str = "test", step: int | None = None) -> float:
    """The fraction of a split's documents whose last byte is the model's most probable one after all the others.

    The checkpoint is the latest of a run unless `step` says otherwise; the data are those the run was given.

    Raises FileNotFoundError and ValueError as `checkpoint.read_model` and `data.open_source` do, and ValueError for
    documents that are not all of one length, and for tokens that are not bytes.
    """
    config, model, params, _ = read_model(workdir, step)
    if config.data.tokenizer != "bytes":
        raise ValueError(f"data.tokenizer must be 'bytes', where an answer is a byte, got {config.data.tokenizer!r}")
    corpus = open_data(config.data, ByteTokenizer())
    return fraction_right(model, params, corpus.documents(split))


def fraction_right(model: LanguageModel, params: Any, documents: Documents) -> float:
    """The same for a model and documents. Raises ValueError for none, and for lengths that differ."""
    if len(sizes := set(documents.sizes.tolist())) != 1:
        raise ValueError(f"documents must all have one length, got lengths {sorted(sizes)[:5]}")
    tokens = np.stack([ByteTokenizer().encode(documents[i]) for i in range(len(documents))])
    right = jax.jit(lambda params, rows: _right(model, params, rows))
    return float(np.concatenate([right(params, rows) for rows in np.split(tokens, _cuts(len(tokens)))]).mean())


def _right(model: LanguageModel, params: Any, tokens: jax.Array) -> jax.Array:
    logits, _ = model.apply({"params": params}, tokens[:, :-1])
    return jnp.argmax(logits[:, -1], axis=-1) == tokens[:, -1]


def _cuts(count: int) -> list[int]:
    return list(range(BATCH, count, BATCH))
