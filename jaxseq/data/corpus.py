"""A corpus on disk: documents by number, in three splits, read only when asked for."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseq.data.files import find_files, unreadable
from jaxseq.data.index import Cutting, FileRecord, Index, build_index, split_of_bucket
from jaxseq.data.jsonl import document_of_line
from jaxseq.data.tokenised import tokenised
from jaxseq.data.tokenizer import Tokenizer
from jaxseq.data.unpack import unpacked
from jaxseq.data.windows import Tokens

SPLITS = ("train", "validation", "test")
_ENCODINGS = ("utf-8", "bytes")


class Documents:
    """The documents of one split: a random-access sequence of bytes, usable as a grain source.

    Holds offsets only; every access opens, reads and closes the file that holds the document.

    Attributes:
      sizes: (n,) int64, bytes of each document, all at least 1.
    """

    def __init__(self, index: Index, members: np.ndarray, field: str):
        self._index = index
        self._members = members
        self._field = field
        self.sizes = index.size[members]

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> bytes:
        return self.read(index)

    @property
    def key(self) -> str:
        """Names what the documents hold: a hash of their files' hashes and of the places in them."""
        digest = hashlib.sha256(" ".join([self._field, *(file.sha256 for file in self._index.files)]).encode())
        for column in (self._index.file, self._index.start, self._index.end, self._index.size):
            digest.update(column[self._members].tobytes())
        return digest.hexdigest()

    def tokens(self, tokenizer: Tokenizer) -> Tokens:
        """The tokens of each document; see `tokenised`."""
        return tokenised(self, tokenizer)

    def read(self, i: int, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of document i; no others are read, except that a JSON line is parsed whole.

        Raises:
          IndexError: i is not from -n to n - 1.
          ValueError: not 0 <= start <= stop <= sizes[i], or a JSON line that is no longer what it was.
          OSError: the file cannot be read, or changed since the corpus was opened.
        """
        size = int(self.sizes[i])
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise ValueError(f"start and stop must be ordered and from 0 to {size}, got {start} and {stop}")
        row = self._members[i]
        file = self._index.files[self._index.file[row]]
        first, last = int(self._index.start[row]), int(self._index.end[row])
        if not file.jsonl:
            return _read(file.path, first + start, first + stop)
        document = document_of_line(_read(file.path, first, last), file.path, field=self._field)
        if len(document) != size:
            raise _changed(file.path)
        return document[start:stop]


@dataclass(frozen=True, eq=False)
class Corpus:
    """What `open_corpus` found.

    Attributes:
      source, encoding, field: as given.
      index: offsets and sizes of all documents.
      split: (n,) the split of each document, as a position in `SPLITS`.
    """

    source: str
    encoding: str
    field: str
    index: Index
    split: np.ndarray

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """One record per file, in the order read."""
        return self.index.files

    @property
    def pieces(self) -> int:
        """How many documents are pieces of a larger file."""
        return self.index.pieces

    @property
    def skipped(self) -> int:
        """How many empty files, blank lines and empty texts were left out."""
        return self.index.skipped

    def documents(self, split: str) -> Documents:
        """The documents of "train", "validation" or "test", in file order. Raises ValueError: any other name."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        members = np.flatnonzero(self.split == SPLITS.index(split))
        return Documents(self.index, members, self.field)

    def summary(self, split: str) -> dict[str, Any]:
        """Documents, bytes, and SHA-256 of the documents one after another, of a split. Reads all of it."""
        documents = self.documents(split)
        digest = hashlib.sha256()
        for i in range(len(documents)):
            digest.update(documents[i])
        return {"documents": len(documents), "bytes": int(documents.sizes.sum()), "sha256": digest.hexdigest()}


def open_corpus(
    source: str,
    *,
    encoding: str = "utf-8",
    field: str = "text",
    piece_bytes: int = 65536,
    delimiter: str | None = None,
    fractions: tuple[float, float, float] = (0.90, 0.05, 0.05),
) -> Corpus:
    """Reads every file once, in order, and keeps where the documents are, not what they say.

    A document is a file, or a line of a `*.jsonl` file (UTF-8, under either encoding), or a piece: a plain file longer
    than `piece_bytes` is cut, just after a newline where one stands in the second half of a piece, and each piece is a
    document of its own, so a model's state does not cross the cut. `Corpus.pieces` counts them. The files of "stdlib"
    are never cut. With a `delimiter`, plain files are cut there and nowhere else. Rows of `*.parquet` and records of
    `*.array_record` are documents; these files, and those that end in `.gz` or `.zst`, are unpacked once, see
    `unpack`. Empty files, blank lines and empty texts are left out and counted in `Corpus.skipped`.

    A document's split depends on its bytes alone (the first 8 bytes of their SHA-256, big-endian, modulo 10000), so it
    is the same on every machine, and equal documents are in one split.

    Args:
      source: "stdlib", a file, a directory or a glob pattern; see `find_files`.
      encoding: "utf-8" refuses a plain file that is not, "bytes" takes anything.
      field: the field of a JSON line, or the column of a parquet file, that holds the text.
      delimiter: what stands between the documents of a plain file, such as "<|endoftext|>"; it is in none of them.
      piece_bytes: the longest document of a plain file, in bytes.
      fractions: of train, validation and test; they sum to 1. A split of fraction 0 stays empty.

    Raises:
      ValueError: an argument out of range, a file that is not what `encoding` or `field` says, or a train or validation
        split that was asked for and got no document.
      FileNotFoundError, PermissionError, OSError: a source that is not there or not readable.
    """
    _check_arguments(encoding, piece_bytes, delimiter, fractions)
    limit = None if source == "stdlib" else piece_bytes
    files = [unpacked(file, field=field) for file in find_files(source)]
    index = build_index(files, Cutting(limit, encoding, field, delimiter))
    split = split_of_bucket(index.bucket, fractions)
    check_splits(source, index, split, piece_bytes, fractions)
    return Corpus(source, encoding, field, index, split)


def _check_arguments(
    encoding: str, piece_bytes: int, delimiter: str | None, fractions: tuple[float, float, float]
) -> None:
    if encoding not in _ENCODINGS:
        raise ValueError(f"data.encoding must be one of {', '.join(_ENCODINGS)}, got {encoding!r}")
    if piece_bytes < 1:
        raise ValueError(f"data.piece_bytes must be at least 1, got {piece_bytes}")
    if delimiter == "":
        raise ValueError("data.delimiter must not be empty; None cuts files into pieces")
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"data.fractions must be three numbers from 0 to 1 that sum to 1, got {fractions}")


def check_splits(
    source: str, index: Index, split: np.ndarray, piece_bytes: int, fractions: tuple[float, float, float]
) -> None:
    """Raises ValueError: no documents at all, or none in a train or validation split that was asked for."""
    if not len(split):
        raise ValueError(
            f"data.source={source!r} holds no text: its files are empty ({index.skipped} skipped), give others"
        )
    counts = np.bincount(split, minlength=3)
    for name, count, fraction in zip(SPLITS[:2], counts, fractions, strict=False):
        if fraction > 0 and not count:
            raise ValueError(
                f"data.source={source!r}: the {name} split is empty (documents in all: {len(split)}): give more "
                f"documents, or smaller ones by setting data.piece_bytes below {piece_bytes}"
            )


def _read(path: str, start: int, stop: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            data = file.read(stop - start)
    except OSError as error:
        raise unreadable(error, path) from error
    if len(data) != stop - start:
        raise _changed(path)
    return data


def _changed(path: str) -> OSError:
    return OSError(f"data.source: {path} changed since the corpus was opened: start again with the files at rest")
