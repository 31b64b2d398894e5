"""The tokens of documents: bytes as they are read, anything else tokenised once and kept in the cache."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxseq.data.cache import cached
from jaxseq.data.tokenizer import Tokenizer
from jaxseq.data.windows import Tokens

_AT_ONCE = 1 << 20  # bytes of documents that are tokenised together


class Readable(Protocol):
    """What is needed of `Documents` here."""

    sizes: np.ndarray

    @property
    def key(self) -> str:
        """Names what the documents hold."""
        ...

    def read(self, i: int, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of document i."""
        ...


class ByteTokens:
    """Documents whose tokens are their bytes; nothing is held."""

    def __init__(self, documents: Readable):
        self._documents = documents
        self.counts = documents.sizes

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        """Bytes [start, stop) of document i, (stop - start,) int32."""
        return np.frombuffer(self._documents.read(i, start, stop), np.uint8).astype(np.int32)


class FlatTokens:
    """Documents one after another in one array of ids, of any integer dtype, such as a memory map.

    Args:
      ids: (total,) unsigned integers.
      starts, counts: (n,) int64, where the tokens of each document are.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, counts: np.ndarray):
        self._ids = ids
        self._starts = starts
        self.counts = counts

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) of document i, (stop - start,) int32."""
        first = int(self._starts[i])
        return np.asarray(self._ids[first + start : first + stop], np.int32)


def tokenised(documents: Readable, tokenizer: Tokenizer) -> Tokens:
    """The tokens of documents that are bytes. Other than bytes, they are in the cache, 2 bytes each (4 where the
    vocabulary is above 65,536), made at the first call for the same documents and tokenizer.
    """
    if tokenizer.name == "bytes":
        return ByteTokens(documents)
    key = hashlib.sha256(f"{documents.key} {tokenizer.name}".encode()).hexdigest()[:32]
    folder = cached(f"tokens/{key}", lambda half: _write(half, documents, tokenizer))
    counts = np.load(folder / "counts.npy")
    ids = np.memmap(folder / "ids", id_dtype(tokenizer.vocab), mode="r")
    return FlatTokens(ids, np.cumsum(counts) - counts, counts)


def id_dtype(vocab: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id, little-endian."""
    return np.dtype("<u2" if vocab <= 1 << 16 else "<u4")


def groups(sizes: np.ndarray) -> Iterator[range]:
    """Runs of documents of about a megabyte together, at least one each."""
    first, held = 0, 0
    for i, size in enumerate(sizes.tolist()):
        held += size
        if held >= _AT_ONCE:
            yield range(first, i + 1)
            first, held = i + 1, 0
    if first < len(sizes):
        yield range(first, len(sizes))


def _write(folder: Path, documents: Readable, tokenizer: Tokenizer) -> None:
    counts: list[int] = []
    with (folder / "ids").open("wb") as file:
        for group in groups(documents.sizes):
            found: Sequence[np.ndarray] = tokenizer.encode_all([documents.read(i) for i in group])
            counts += map(len, found)
            file.write(np.concatenate(found).astype(id_dtype(tokenizer.vocab)).tobytes())
    np.save(folder / "counts.npy", np.array(counts, np.int64))
