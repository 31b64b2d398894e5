"""Several sources as one corpus, drawn in given proportions."""

import hashlib
from collections.abc import Sequence

import numpy as np

from jaxseq.data.corpus import SPLITS, Corpus, Documents
from jaxseq.data.index import FileRecord
from jaxseq.data.tokenizer import Tokenizer
from jaxseq.data.windows import Tokens


class MixedDocuments(Documents):
    """The documents of several sources, one source after another; `weights` are their shares of training."""

    def __init__(self, parts: Sequence[Documents], weights: Sequence[float]):
        self.parts, self.weights = tuple(parts), tuple(weights)
        self.sizes = np.concatenate([part.sizes for part in parts])
        self._stops = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def key(self) -> str:
        """Names what the documents hold."""
        return hashlib.sha256(" ".join(part.key for part in self.parts).encode()).hexdigest()

    def read(self, i: int, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of document i. Raises as `Documents.read`."""
        part, i = _place(self._stops, range(len(self))[i])
        return self.parts[part].read(i, start, stop)

    def tokens(self, tokenizer: Tokenizer) -> Tokens:
        """The tokens of all sources, in the order of the documents."""
        return _MixedTokens([part.tokens(tokenizer) for part in self.parts])


class _MixedTokens:
    def __init__(self, parts: Sequence[Tokens]):
        self._parts = parts
        self.counts = np.concatenate([part.counts for part in parts])
        self._stops = np.cumsum([len(part.counts) for part in parts])

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        part, i = _place(self._stops, i)
        return self._parts[part].read(i, start, stop)


class Mixture(Corpus):
    """Corpora with the weights that `data.weights` gives them, not necessarily of sum 1.

    Splits are those of the corpora. The weights count for training alone: evaluation reads every document once.
    """

    def __init__(self, corpora: Sequence[Corpus], weights: Sequence[float]):
        first = corpora[0]
        super().__init__(", ".join(c.source for c in corpora), first.encoding, first.field, first.index, first.split)
        object.__setattr__(self, "corpora", tuple(corpora))
        object.__setattr__(self, "weights", tuple(float(w) for w in weights))

    corpora: tuple[Corpus, ...]
    weights: tuple[float, ...]

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """One record per file of all sources, in the order read."""
        return tuple(file for corpus in self.corpora for file in corpus.files)

    @property
    def pieces(self) -> int:
        """How many documents are pieces of a larger file."""
        return sum(corpus.pieces for corpus in self.corpora)

    @property
    def skipped(self) -> int:
        """How many empty files, blank lines and empty texts were left out."""
        return sum(corpus.skipped for corpus in self.corpora)

    def documents(self, split: str) -> MixedDocuments:
        """The documents of "train", "validation" or "test", source by source. Raises ValueError: any other name."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return MixedDocuments([corpus.documents(split) for corpus in self.corpora], self.weights)


def parts_of(documents: Documents) -> tuple[Sequence[Documents], Sequence[float]]:
    """The sources of a mixture that have documents, and their weights; documents of one source are that source."""
    if not isinstance(documents, MixedDocuments):
        return [documents], [1.0]
    found = [(part, w) for part, w in zip(documents.parts, documents.weights, strict=True) if len(part)]
    return [part for part, _ in found], [w for _, w in found]


def tokens_per_byte(documents: Documents, tokenizer: Tokenizer) -> float:
    """Targets for each byte of training, ends of documents included; of a mixture, in proportion to its weights."""
    parts, weights = parts_of(documents)
    targets = [int(part.tokens(tokenizer).counts.sum()) + len(part) for part in parts]
    drawn = zip(parts, weights, targets, strict=True)
    return sum(weights) / sum(weight * float(part.sizes.sum()) / count for part, weight, count in drawn)


def _place(stops: np.ndarray, i: int) -> tuple[int, int]:
    """Which part holds thing i, and its number there."""
    part = int(np.searchsorted(stops, i, side="right"))
    return part, i - (int(stops[part - 1]) if part else 0)
