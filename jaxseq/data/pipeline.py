"""Training batches: windows of documents, shuffled over the corpus, packed into rows."""

import grain
import numpy as np

from jaxseq.data.corpus import Documents
from jaxseq.data.tokenizer import ByteTokenizer

# Rows packed at a time. More rows leave less padding; a restored iterator packs up to this many again.
_PACKED_ROWS = 128


class Windows:
    """The tokens of every document cut into windows that overlap by one: a random-access source for grain.

    A document of n bytes is n + 2 tokens: BOS, its bytes, and BOS again, the end to be predicted. Window j holds tokens
    [j * length, j * length + length], fewer at the end, so each token follows its predecessor in exactly one window. An
    item is {"tokens": (2 to length + 1,) int32}.
    """

    def __init__(self, documents: Documents, tokenizer: ByteTokenizer, length: int):
        self._documents = documents
        self._tokenizer = tokenizer
        self._length = length
        counts = -(-(documents.sizes + 1) // length)
        self._stops = np.cumsum(counts)
        self._starts = self._stops - counts

    def __len__(self) -> int:
        return int(self._stops[-1]) if len(self._stops) else 0

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        document = int(np.searchsorted(self._stops, index, side="right"))
        start = (index - int(self._starts[document])) * self._length
        stop, size = start + self._length, int(self._documents.sizes[document])
        # Token t is byte t - 1, so the window's bytes are one to the left; encode() puts BOS where there is none.
        tokens = self._tokenizer.encode(self._documents.read(document, max(start - 1, 0), min(stop, size)))
        end = [] if stop <= size else [self._tokenizer.bos]
        return {"tokens": np.append(tokens[1:] if start else tokens, np.array(end, np.int32))}


def train_batches(
    documents: Documents,
    tokenizer: ByteTokenizer,
    *,
    length: int,
    batch: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator[dict[str, np.ndarray]]:
    """Batches without end, each epoch in a new order; every byte and every end of a document is a target
    exactly once per epoch.

    Documents are cut into windows of length + 1 tokens that overlap by one, and windows are shuffled over the whole
    split. Process p of n takes every n-th of them; a short one shares a row with others. No state carries over from one
    row to another.

    Args:
      documents: the split; one byte is one token.
      tokenizer: gives `bos` and the ids of bytes.
      length: targets per row.
      batch: rows over all processes, a multiple of process_count.
      seed: from 0; the same seed gives the same batches.
      process_index, process_count: which share of the rows this process makes.

    Returns:
      A grain iterator with get_state() and set_state(state), the state being a small JSON-able dict that is valid for
      the same arguments only. With b = batch // process_count, its items hold
        tokens: (b, length + 1) int32, inputs tokens[:, :-1] and targets tokens[:, 1:], padded with `bos`;
        reset: (b, length) bool, True where a window or the padding begins, as at the first input of each row;
        weight: (b, length) float32, 1 where input and target are neighbours in a document, else 0.

    Raises ValueError: no documents, a size below 1, a negative seed, or processes that do not divide the batch.
    """
    _check(documents, length, batch, seed, process_index, process_count)
    windows = grain.MapDataset.source(Windows(documents, tokenizer, length))
    # grain seeds epoch e with seed + e; mixing first keeps runs with neighbouring seeds from sharing their epochs.
    mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    mine = windows.shuffle(seed=mixed).repeat()[process_index::process_count]
    rows = grain.experimental.BestFitPackIterDataset(
        # Reads are short and the page cache is warm: threads cost more than they hide.
        mine.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)),
        length_struct={"tokens": length + 1},
        padding_struct={"tokens": tokenizer.bos},
        num_packing_bins=_PACKED_ROWS,
        seed=mixed,
    )
    return iter(rows.batch(batch // process_count).map(_with_masks))


def _with_masks(packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
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
    if batch % process_count:
        raise ValueError(f"batch must be a multiple of process_count, got {batch} and {process_count}")
