"""Training batches: windows of documents, shuffled over the corpus, packed into rows, in shards that any number of
processes can share.

The stream is V virtual shards (`data.shards`), each a pipeline of its own, with its own state:

    windows of each source -> shuffled (each epoch anew) and repeated -> every V-th of them -> sources mixed -> packed

Rows [v * batch / V, (v + 1) * batch / V) of every global batch come from shard v. Process p of n runs the V / n shards
from p * V / n on, so its rows are a contiguous part of the batch, the p-th of n, and the sequence of global batches
does not depend on n.

    iterator.get_state()  ->  {"pipeline": {...}, "3": {...}, "4": {...}}    JSON, the shards of this process
    iterator.set_state(a dict with "pipeline" and at least the shards of this process)

A checkpoint of n processes restores on m: what is saved is the union of the dicts of all processes (their shards are
disjoint, or equal where two processes hold the same rows; "pipeline" is the same in all), and every process gives the
whole union to set_state, which takes its own. "pipeline" says what made the stream; where it differs, set_state raises
`PipelineChanged` with what differs and moves nothing. That is another pipeline, not a damaged checkpoint.
"""

import importlib.metadata
import math
from typing import Any

import grain
import numpy as np

from jaxseq.data.corpus import Documents
from jaxseq.data.mixture import parts_of
from jaxseq.data.tokenizer import Tokenizer
from jaxseq.data.windows import Windows

# Rows packed at a time, over all shards. More leave less padding; a restored iterator packs up to this many again.
_PACKED_ROWS = 128
_FEWEST_PACKED = 32  # of a shard
Batch = dict[str, np.ndarray]


class PipelineChanged(ValueError):
    """A state that another pipeline saved: other data, sizes, seed, tokenizer, or version of grain."""


class ShardedBatches(grain.DatasetIterator[Batch]):
    """What `train_batches` returns: an iterator over the rows of some shards, see the module.

    Attributes:
      pipeline: JSON-able, what determines the sequence of global batches.
    """

    def __init__(self, shards: dict[int, grain.DatasetIterator[Batch]], pipeline: dict[str, Any]):
        super().__init__(list(shards.values()))
        self._shards = shards
        self.pipeline = pipeline

    def __next__(self) -> Batch:
        parts = [next(shard) for shard in self._shards.values()]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def get_state(self) -> dict[str, Any]:
        """The place of every shard of this process, as JSON: {"pipeline": {...}, "3": {...}}."""
        return {"pipeline": self.pipeline} | {str(v): shard.get_state() for v, shard in self._shards.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Moves to a place that `get_state` gave, of this many processes or of another number: others' shards are left.

        Raises PipelineChanged, before anything moves, where another pipeline saved it; ValueError where a shard of this
        process is missing.
        """
        if changed := differences(state.get("pipeline"), self.pipeline):
            raise PipelineChanged(f"the data pipeline is not the one that was saved: {'; '.join(changed)}")
        missing = [v for v in self._shards if str(v) not in state]
        if missing:
            found = sorted(int(v) for v in state if v != "pipeline")
            raise ValueError(f"state must hold shards {list(self._shards)}, got {found}: give those of all processes")
        for v, shard in self._shards.items():
            shard.set_state(state[str(v)])


def differences(saved: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """What differs between two `ShardedBatches.pipeline`, a line for each field, saved first."""
    if saved is None:
        return ["it was saved by a version without data.shards"]
    names = [*now, *(name for name in saved if name not in now)]
    return [f"{k}: {saved.get(k)!r} -> {now.get(k)!r}" for k in names if saved.get(k) != now.get(k)]


def default_shards(batch: int) -> int:
    """V where `data.shards` is None: the most of 8, 4, 2 and 1 that divide the batch."""
    return math.gcd(batch, 8)


def train_batches(
    documents: Documents,
    tokenizer: Tokenizer,
    *,
    length: int,
    batch: int,
    seed: int,
    shards: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> ShardedBatches:
    """Batches without end, each epoch in a new order; every token and every end of a document is a target
    exactly once per epoch.

    Documents are cut into windows of length + 1 tokens that overlap by one, and windows are shuffled over the whole
    split. Shard v of V takes every V-th of them; a short one shares a row with others. No state carries over from one
    row to another. Documents of a mixture are drawn so that targets are in proportion to its weights.

    Args:
      documents: the split.
      tokenizer: bytes to ids; gives `bos`.
      length: targets per row.
      batch: rows over all processes.
      seed: from 0; the same seed gives the same batches.
      shards: V, a divisor of batch and a multiple of process_count; None is `default_shards(batch)`.
      process_index, process_count: which of the shards this process makes.

    Returns:
      A grain iterator, see the module. With b = batch / process_count, its items hold
        tokens: (b, length + 1) int32, inputs tokens[:, :-1] and targets tokens[:, 1:], padded with `bos`;
        reset: (b, length) bool, True where a window or the padding begins, as at the first input of each row;
        weight: (b, length) float32, 1 where input and target are neighbours in a document, else 0.

    Raises ValueError: no documents, a size below 1, a negative seed, or shards that do not fit batch or processes.
    """
    _check(documents, length, batch, seed, process_index, process_count)
    total = default_shards(batch) if shards is None else shards
    _check_shards(total, batch, process_count)
    sources, weights = _sources(documents, tokenizer, length)
    # grain seeds epoch e with seed + e; mixing first keeps runs with neighbouring seeds from sharing their epochs.
    seeds = [int(np.random.SeedSequence((seed, i) if i else seed).generate_state(1)[0]) for i in range(len(sources))]
    shuffled = [grain.MapDataset.source(s).shuffle(seed=k).repeat() for s, k in zip(sources, seeds, strict=True)]
    share = total // process_count
    mine = range(process_index * share, (process_index + 1) * share)
    iterators = {}
    for v in mine:
        own = [each[v::total] for each in shuffled]
        windows = own[0] if len(own) == 1 else grain.MapDataset.mix(own, weights=weights)
        packed = _packed(windows, tokenizer.bos, length, seeds[0] + v, max(_PACKED_ROWS // total, _FEWEST_PACKED))
        iterators[v] = iter(packed.batch(batch // total).map(_with_masks))
    pipeline = {
        "documents": documents.key,
        "weights": weights,
        "tokenizer": tokenizer.name,
        "length": length,
        "batch": batch,
        "shards": total,
        "seed": seed,
        "grain": importlib.metadata.version("grain"),
    }
    return ShardedBatches(iterators, pipeline)


def _sources(documents: Documents, tokenizer: Tokenizer, length: int) -> tuple[list[Windows], list[float]]:
    """The windows of each part of a mixture, and how often to draw one so that targets are in proportion to weights."""
    parts, weights = parts_of(documents)
    sources = [Windows(part.tokens(tokenizer), tokenizer.bos, length) for part in parts]
    rates = [w * len(s) / s.targets for w, s in zip(weights, sources, strict=True)]
    return sources, [rate / sum(rates) for rate in rates]


def _packed(
    windows: grain.MapDataset[Batch], bos: int, length: int, seed: int, rows: int
) -> grain.IterDataset[dict[str, np.ndarray]]:
    return grain.experimental.BestFitPackIterDataset(
        # Reads are short and the page cache is warm: threads cost more than they hide.
        windows.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)),
        length_struct={"tokens": length + 1},
        padding_struct={"tokens": bos},
        num_packing_bins=rows,
        seed=seed,
    )


def _with_masks(packed: Batch) -> Batch:
    """grain numbers the windows of a row 1, 2, ... and the padding 0."""
    segment = packed["tokens_segment_ids"]
    same = segment[:, 1:] == segment[:, :-1]
    reset = np.ones_like(same)
    reset[:, 1:] = ~same[:, :-1]
    weight = same & (segment[:, 1:] > 0)
    return {"tokens": packed["tokens"], "reset": reset, "weight": weight.astype(np.float32)}


def _check(documents: Documents, length: int, batch: int, seed: int, process_index: int, process_count: int) -> None:
    if not len(documents):
        raise ValueError("documents must hold at least one document, got none")
    if length < 1 or batch < 1:
        raise ValueError(f"length and batch must be at least 1, got {length} and {batch}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be from 0 to process_count - 1, got {process_index} of {process_count}")


def _check_shards(shards: int, batch: int, process_count: int) -> None:
    if shards < 1 or batch % shards or shards % process_count:
        raise ValueError(
            f"data.shards must divide data.batch = {batch} and be a multiple of the {process_count} processes, "
            f"got {shards}"
        )
