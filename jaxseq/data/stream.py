"""Evaluation batches: a whole split in order, with the state carried from each batch to the next."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from jaxseq.data.corpus import Documents
from jaxseq.data.tokenizer import Tokenizer
from jaxseq.data.windows import Tokens, span


@dataclass(frozen=True, eq=False)
class StreamBatches:
    """What `stream_batches` returns: `len` batches; iterating again starts again."""

    documents: Documents
    tokenizer: Tokenizer
    length: int
    batch: int
    part: int = 0
    parts: int = 1
    _tokens: Tokens = field(init=False, repr=False)
    _starts: np.ndarray = field(init=False, repr=False)  # (n + 1,) the position of each document's BOS in the stream

    def __post_init__(self):
        if not len(self.documents):
            raise ValueError("documents must hold at least one document, got none")
        if self.length < 1 or self.batch < 1:
            raise ValueError(f"length and batch must be at least 1, got {self.length} and {self.batch}")
        if not 0 <= self.part < self.parts or self.batch % self.parts:
            raise ValueError(f"parts must divide batch = {self.batch}, got part {self.part} of {self.parts}")
        tokens = self.documents.tokens(self.tokenizer)
        object.__setattr__(self, "_tokens", tokens)
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(tokens.counts + 1)]))

    @property
    def targets(self) -> int:
        """Tokens to predict, which is the sum of all weights: every token of the stream but the first."""
        return int(self._starts[-1]) - 1

    def __len__(self) -> int:
        longest = -(-self.targets // self.batch)
        return -(-longest // self.length)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        # Row r predicts tokens (bounds[r], bounds[r + 1]]: the last token of a row is the first input of the next.
        bounds = [r * self.targets // self.batch for r in range(self.batch + 1)]
        size = self.batch // self.parts
        mine = itertools.pairwise(bounds[self.part * size : (self.part + 1) * size + 1])
        rows = [self._windows(first, last) for first, last in mine]
        for _ in range(len(self)):
            yield self._stack([next(row, None) for row in rows])

    def _windows(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Tokens first to last in windows of up to length + 1 that overlap by one."""
        held = np.empty(0, np.int32)
        for tokens in self._spans(first, last + 1):
            held = np.concatenate([held, tokens])
            while len(held) > self.length:
                yield held[: self.length + 1]
                held = held[self.length :]
        if len(held) > 1:
            yield held

    def _spans(self, first: int, stop: int) -> Iterator[np.ndarray]:
        """Tokens [first, stop) of the stream, one document at a time."""
        i = int(np.searchsorted(self._starts, first, side="right")) - 1
        while first < stop:
            start, end = int(self._starts[i]), min(stop, int(self._starts[i + 1]))
            yield span(self._tokens, self.tokenizer.bos, i, first - start, end - start)
            first, i = end, i + 1

    def _stack(self, windows: list[np.ndarray | None]) -> dict[str, np.ndarray]:
        tokens = np.full((len(windows), self.length + 1), self.tokenizer.bos, np.int32)
        weight = np.zeros((len(windows), self.length), np.float32)
        for row, window in enumerate(windows):
            if window is not None:
                tokens[row, : len(window)] = window
                weight[row, : len(window) - 1] = 1
        return {"tokens": tokens, "reset": tokens[:, :-1] == self.tokenizer.bos, "weight": weight}


def stream_batches(
    documents: Documents, tokenizer: Tokenizer, *, length: int, batch: int, part: int = 0, parts: int = 1
) -> StreamBatches:
    """The whole split, once, in order: for evaluation with the model's state carried from batch to batch.

    The stream is `bos` and the tokens of each document, one document after another. It is cut into `batch` rows of
    equal length (within one token), and batch k holds window k of every row: start from a zero state, and give the
    state after batch k to batch k + 1. Each row also holds the first token of the next, so every token of the stream
    but the very first is a target exactly once, and the weights of all batches sum to tokens - 1
    (`StreamBatches.targets`). A target may be `bos`, the end of a document, as in training. Holds one document per row
    in memory.

    Args:
      documents: the split.
      tokenizer: bytes to ids; gives `bos`.
      length: targets per row and batch.
      batch: rows over all processes.
      part, parts: only the rows of the part-th of so many equal parts of each batch are read and returned.

    Returns:
      A re-iterable of `len(...)` dicts:
        tokens: (batch / parts, length + 1) int32, inputs tokens[:, :-1] and targets tokens[:, 1:], padded with `bos`;
        reset: (batch / parts, length) bool, True exactly where the input is `bos`, which includes padding;
        weight: (batch / parts, length) float32, 1 on targets of the stream and 0 on padding.

    Raises ValueError: no documents, a size below 1, or parts that do not divide the batch.
    """
    return StreamBatches(documents, tokenizer, length, batch, part, parts)
