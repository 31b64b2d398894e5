"""How well a model predicts a text, and how much it gains from what it has read of the document so far."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseq.checkpoint import read_model
from jaxseq.cluster import compile_together
from jaxseq.data import manifest, open_data, open_tokenizer, stream_batches
from jaxseq.model import LanguageModel
from jaxseq.model.loss import token_nats
from jaxseq.sharding import constrain

BOUNDS = np.array([0, *(2**i for i in range(21))])  # lower bounds of the buckets of positions; the last has no upper
Worst = tuple[Any, Any, Any]  # least converged, largest growth, largest Jacobian
NOTHING_SOLVED: Worst = (1.0, -np.inf, -np.inf)
FLUSH = 32  # windows whose sums wait on the device before they are added up in float64 on the host


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` measured. A loss that is not finite is reported as it is.

    Attributes:
      bits_per_byte: all nats / (ln 2 · bytes).
      nats_per_token: mean cross entropy.
      perplexity: exp(nats_per_token).
      tokens: sum of the weights.
      bytes: sum of weight · token_bytes[target].
      converged: the smallest fraction of sequences, over windows and layers, that a nonlinear mixer's solver solved;
        1.0 where there is nothing to solve.
      growth, jacobian: the largest of these that a nonlinear mixer reports over windows and layers (see
        `Solution.growth` and `solvers.jacobian`); -inf where there is none.
      position: (n,) int64, lower bounds 0, 1, 2, 4, ... 2^20 of the buckets that have any target. The position of a
        prediction is that of its input token in the document, `bos` being 0: the bytes known of the document.
      position_nats: (n,) float64, mean nats per token in each bucket.
      position_tokens: (n,) float64, sum of the weights in each bucket.
    """

    bits_per_byte: float
    nats_per_token: float
    perplexity: float
    tokens: float
    bytes: float
    converged: float
    growth: float
    jacobian: float
    position: np.ndarray
    position_nats: np.ndarray
    position_tokens: np.ndarray

    def to_json(self) -> dict[str, float | list[float] | list[int]]:
        """All fields as plain numbers and lists, for json.dumps (which writes a NaN as NaN)."""
        return {name: v.tolist() if isinstance(v, np.ndarray) else float(v) for name, v in vars(self).items()}


def evaluate(
    model: LanguageModel,
    params: Any,
    batches: Iterable[Mapping[str, Any]],
    *,
    token_bytes: Any,
    max_batches: int | None = None,
) -> Evaluation:
    """Cross entropy over `batches`, with the state and the position in the document carried from batch to batch.

    Params and batches may be sharded over a mesh (run it under `jax.set_mesh`). Sums stay on the device, and
    every 32 batches go to the host, where they are added in float64.

    Args:
      model: a language model.
      params: its parameters, unboxed.
      batches: dicts of equal shapes: tokens (B, T + 1) int32, reset (B, T) bool, weight (B, T) float32, where row i of
        a batch continues row i of the batch before it (`data.stream_batches`). A target of weight 0 does not count at
        all, and its loss may be anything.
      token_bytes: (tokens,) float, the bytes that each id stands for: for a byte tokenizer 1, and 0 for `bos`.
        A target beyond its end makes `bytes` NaN.
      max_batches: stop after so many.

    Returns:
      Evaluation.

    Raises:
      ValueError: no target of weight above 0, no target that has bytes, max_batches below 1, token_bytes not of rank
        1.
    """
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches must be at least 1, or None, got {max_batches}")
    table = np.asarray(token_bytes, np.float32)
    if table.ndim != 1:
        raise ValueError(f"token_bytes must have shape (tokens,), got {table.shape}")
    carry, waiting, total, worst = None, [], np.zeros((3, len(BOUNDS))), NOTHING_SOLVED
    for index, batch in enumerate(islice(batches, max_batches)):
        if carry is None:
            rows = batch["tokens"].shape[0]
            carry = model.init_state(rows), jnp.zeros(rows, jnp.int32)
        args = model.apply, params, carry, table, *(batch[k] for k in ("tokens", "reset", "weight"))
        if index < 2:  # the first carry lies on one device, later ones as the model lays them out
            compile_together(_window, *args)
        carry, sums = _window(*args)
        waiting.append(sums)
        if len(waiting) == FLUSH:
            total, worst, waiting = *_flush(waiting, total, worst), []
    return _summary(*_flush(waiting, total, worst))


def evaluate_workdir(
    workdir: str, split: str = "validation", *, step: int | None = None, max_batches: int | None = None
) -> Evaluation:
    """`evaluate` for a checkpoint of a run (the latest by default), on a split of the data the run was given.

    Raises FileNotFoundError and ValueError as `checkpoint.read_model` and `data.open_source` do, and ValueError where
    the split is no longer what the run's manifest says.
    """
    config, model, params, _ = read_model(workdir, step)
    data, tokenizer = config.data, open_tokenizer(config.data.tokenizer, workdir)
    corpus = open_data(data, tokenizer)
    recorded = json.loads((Path(workdir) / "manifest.json").read_text())["splits"][split]
    if (found := manifest(corpus)["splits"][split]) != recorded:
        raise ValueError(f"the {split} split of {data.source} has changed since the run: {recorded}, now {found}")
    batches = stream_batches(corpus.documents(split), tokenizer, length=data.length, batch=data.batch)
    return evaluate(model, params, batches, token_bytes=tokenizer.token_bytes, max_batches=max_batches)


@partial(jax.jit, static_argnames="apply", donate_argnames="carry")
def _window(apply, params, carry, token_bytes, tokens, reset, weight):
    """The carry after a window, (its sums by bucket (3, buckets): nats, weight, bytes; `worst_solves`)."""
    state, read = carry
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    (logits, state), aside = apply(
        {"params": params}, inputs, state=state, reset=reset, mutable=["diagnostics", "stability"]
    )
    nats, _ = token_nats(logits, targets)
    position = positions(reset, read)
    bucket = jnp.where(weight != 0, bucket_of(position), -1)  # weight 0: in no bucket, so that a NaN there is not in

    def by_bucket(x: jax.Array) -> jax.Array:
        chosen = jnp.where(bucket[..., None] == np.arange(len(BOUNDS)), (weight * x)[..., None], 0)
        return jnp.sum(jnp.sum(chosen, axis=1), axis=0)

    sums = jnp.stack([by_bucket(x) for x in (nats, jnp.ones_like(nats), jnp.take(token_bytes, targets))])
    return (state, position[:, -1] + 1), (constrain(sums, None, None), worst_solves(aside))


def positions(reset: jax.Array, read: jax.Array) -> jax.Array:
    """Where in its document each token is, (B, T) int32, from 0.

    reset (B, T) bool is True where a document starts; `read` (B,) int32 counts the tokens of the first document that
    came before this window.
    """
    time = jnp.arange(reset.shape[1], dtype=jnp.int32)
    return time - lax.cummax(jnp.where(reset, time, -read[:, None]), axis=1)


def bucket_of(position: jax.Array) -> jax.Array:
    """The index in BOUNDS of the bucket that holds each position, int32: 0, 1, 2-3, 4-7, ..., 2^20 and above."""
    return jnp.minimum(32 - lax.clz(position.astype(jnp.int32)), len(BOUNDS) - 1)


def worst_solves(aside: Mapping[str, Any]) -> jax.Array:
    """The smallest `converged`, the largest `growth` and `jacobian` that mixers report in a forward pass, (3,) float32;
    NOTHING_SOLVED where none does.
    """
    leaves = jax.tree_util.tree_leaves_with_path(aside)

    def extreme(name: str, of: Any, nothing: float) -> jax.Array:
        values = [of(leaf) for path, leaf in leaves if path[-1].key == name]
        return of(jnp.stack(values)) if values else jnp.full((), nothing, jnp.float32)

    names = ("converged", "growth", "jacobian")
    return jnp.stack([extreme(*each) for each in zip(names, (jnp.min, jnp.max, jnp.max), NOTHING_SOLVED, strict=True)])


def _flush(waiting: list[Any], total: np.ndarray, worst: Worst) -> tuple[np.ndarray, Worst]:
    for sums, (converged, growth, jacobian) in jax.device_get(waiting):
        total = total + sums.astype(np.float64)
        worst = np.minimum(worst[0], converged), np.maximum(worst[1], growth), np.maximum(worst[2], jacobian)
    return total, worst


def _summary(total: np.ndarray, worst: Worst) -> Evaluation:
    nats, tokens, size = total.sum(axis=1)
    if tokens == 0:
        raise ValueError("batches must hold a target of weight above 0, got none")
    if size == 0:
        raise ValueError("token_bytes must give some target of batches a size above 0, got 0 for all")
    used = total[1] != 0
    mean = nats / tokens
    with np.errstate(over="ignore"):
        perplexity = np.exp(mean)
    return Evaluation(
        bits_per_byte=float(nats / (np.log(2) * size)),
        nats_per_token=float(mean),
        perplexity=float(perplexity),
        tokens=float(tokens),
        bytes=float(size),
        converged=float(worst[0]),
        growth=float(worst[1]),
        jacobian=float(worst[2]),
        position=BOUNDS[used],
        position_nats=total[0, used] / total[1, used],
        position_tokens=total[1, used],
    )


def table(evaluation: Evaluation) -> str:
    """The loss by position in the document, one bucket per line, then the whole, for a terminal."""
    lines = [f"{'position':>9} {'tokens':>12} {'nats':>8} {'bits':>8}"]
    rows = zip(evaluation.position, evaluation.position_tokens, evaluation.position_nats, strict=True)
    named = [(f"{bound}+", tokens, nats) for bound, tokens, nats in rows]
    for name, tokens, nats in [*named, ("all", evaluation.tokens, evaluation.nats_per_token)]:
        lines.append(f"{name:>9} {tokens:>12,.0f} {nats:>8.4f} {nats / np.log(2):>8.4f}")
    lines.append(f"{evaluation.bits_per_byte:.4f} bits per byte of {evaluation.bytes:,.0f}")
    if not evaluation.converged >= 1:
        lines.append(f"the solver did not converge on {1 - evaluation.converged:.2%} of the sequences of some window")
    if np.isfinite(evaluation.jacobian):
        lines.append(f"largest |dstep/dh| {evaluation.jacobian:.3g}, growth {evaluation.growth:.3g} nats per step")
    return "\n".join(lines)
