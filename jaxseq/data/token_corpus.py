"""A corpus that is tokens already: its bytes are what its tokenizer makes of them."""

import itertools
from collections.abc import Iterable

import numpy as np

from jaxseq.data.corpus import SPLITS, Corpus, Documents
from jaxseq.data.index import Index
from jaxseq.data.tokenizer import Tokenizer
from jaxseq.data.windows import Tokens


class TokenDocuments(Documents):
    """Documents of a split whose tokens are stored. `sizes` are bytes, as everywhere."""

    def __init__(self, index: Index, members: np.ndarray, tokens: Tokens, tokenizer: Tokenizer):
        super().__init__(index, members, tokenizer.name)
        self._tokenizer = tokenizer
        self._tokens = SomeTokens(tokens, members)

    def read(self, i: int, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of document i; all of its tokens are read. Raises as `Documents.read`."""
        i = range(len(self))[i]
        stop = int(self.sizes[i]) if stop is None else stop
        if not 0 <= start <= stop <= self.sizes[i]:
            raise ValueError(f"start and stop must be ordered and from 0 to {self.sizes[i]}, got {start} and {stop}")
        return self._tokenizer.decode(self._tokens.read(i, 0, int(self._tokens.counts[i])))[start:stop]

    def tokens(self, tokenizer: Tokenizer) -> Tokens:
        """The tokens as they are. Raises ValueError: another tokenizer made them."""
        if tokenizer.name != self._tokenizer.name:
            raise ValueError(f"data.tokenizer must be {self._tokenizer.name}, which made them, got {tokenizer.name}")
        return self._tokens


class SomeTokens:
    """The tokens of some of the documents, `members`, of a longer list."""

    def __init__(self, tokens: Tokens, members: np.ndarray):
        self._all = tokens
        self._members = members
        self.counts = tokens.counts[members]

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) of document i, (stop - start,) int32."""
        return self._all.read(int(self._members[i]), start, stop)


class TokenCorpus(Corpus):
    """Documents of which tokens are stored.

    Args:
      source: as given in the config.
      index: sizes in bytes; what `start` and `end` count is up to `tokens`.
      split: (n,) the split of each document.
      tokens: of the documents of the index.
      tokenizer: that they were made with.
    """

    def __init__(self, source: str, index: Index, split: np.ndarray, tokens: Tokens, tokenizer: Tokenizer):
        super().__init__(source, "tokens", "", index, split)
        object.__setattr__(self, "_tokens", tokens)
        object.__setattr__(self, "_tokenizer", tokenizer)

    _tokens: Tokens
    _tokenizer: Tokenizer

    def documents(self, split: str) -> TokenDocuments:
        """The documents of "train", "validation" or "test". Raises ValueError: any other name."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        members = np.flatnonzero(self.split == SPLITS.index(split))
        return TokenDocuments(self.index, members, self._tokens, self._tokenizer)


class FileTokens:
    """Documents that lie in several arrays of ids.

    Args:
      arrays: one for each file.
      file, start, end: (n,) which array holds a document, and where.
    """

    def __init__(self, arrays: Iterable[np.ndarray], file: np.ndarray, start: np.ndarray, end: np.ndarray):
        self._arrays = list(arrays)
        self._file = file
        self._start = start
        self.counts = end - start

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) of document i, (stop - start,) int32."""
        first = int(self._start[i])
        return np.asarray(self._arrays[self._file[i]][first + start : first + stop], np.int32)


def between(ids: np.ndarray, bos: int, longest: int) -> list[tuple[int, int]]:
    """[start, end) of the documents of one array: the runs between `bos`, in pieces of up to `longest` tokens."""
    borders = [-1, *np.flatnonzero(ids == bos).tolist(), len(ids)]
    return [
        (start, min(start + longest, stop))
        for before, stop in itertools.pairwise(borders)
        for start in range(before + 1, stop, longest)
    ]
