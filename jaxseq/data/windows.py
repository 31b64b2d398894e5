"""Tokens of documents cut into windows: what is shuffled and packed for training."""

from typing import Protocol

import numpy as np


class Tokens(Protocol):
    """The tokens of a list of documents, without the `bos` between them.

    Attributes:
      counts: (n,) int64, tokens of each document, all at least 1.
    """

    @property
    def counts(self) -> np.ndarray:
        """See the class."""
        ...

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) of document i, (stop - start,) int32."""
        ...


class Windows:
    """The tokens of every document cut into windows that overlap by one: a random-access source for grain.

    A document of n tokens is n + 2 with its ends: BOS, its tokens, and BOS again, the end to be predicted. Window j
    holds [j * length, j * length + length], fewer at the end, so each token follows its predecessor in exactly one
    window. An item is {"tokens": (2 to length + 1,) int32}.

    Attributes:
      targets: of all windows, every token and every end of a document once.
    """

    def __init__(self, tokens: Tokens, bos: int, length: int):
        self._tokens = tokens
        self._bos = bos
        self._length = length
        counts = -(-(tokens.counts + 1) // length)
        self._stops = np.cumsum(counts)
        self._starts = self._stops - counts
        self.targets = int(tokens.counts.sum()) + len(tokens.counts)

    def __len__(self) -> int:
        return int(self._stops[-1]) if len(self._stops) else 0

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        document = int(np.searchsorted(self._stops, index, side="right"))
        start = (index - int(self._starts[document])) * self._length
        return {"tokens": span(self._tokens, self._bos, document, start, start + self._length + 1)}


def span(tokens: Tokens, bos: int, document: int, start: int, stop: int) -> np.ndarray:
    """Places [start, stop) of bos, the tokens of a document, bos: (stop - start,) int32, fewer where it is over."""
    size = int(tokens.counts[document])
    # Place t is token t - 1, so the range of tokens is one to the left.
    found = tokens.read(document, max(start - 1, 0), min(stop - 1, size))
    first, last = ([bos] if end else [] for end in (start == 0, stop > size + 1))
    return np.concatenate([np.array(first, np.int32), found, np.array(last, np.int32)])
