"""One streaming pass over the files: which documents there are, where, and in which split."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxseq.data.files import SourceFile, unreadable
from jaxseq.data.jsonl import scan_jsonl
from jaxseq.data.plain import scan_plain

_BUCKETS = 10_000


@dataclass(frozen=True)
class FileRecord:
    """A file that was read: how to open it, its name in the manifest, its length in bytes and its SHA-256 in hex."""

    path: str
    name: str
    jsonl: bool
    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Index:
    """The n documents of a corpus, in order, and what was met on the way.

    Attributes:
      files: one record per file, in the order read.
      file: (n,) int32, the position in `files` of the file that holds the document.
      start, end: (n,) int64, byte offsets in that file of the document, or of its JSON line.
      size: (n,) int64, bytes of the document itself, never 0.
      bucket: (n,) int32 in [0, 10000), a hash of the document's bytes: equal documents, equal buckets.
      skipped: empty files, blank lines and empty texts.
      pieces: documents that are pieces of a larger file.
    """

    files: tuple[FileRecord, ...]
    file: np.ndarray
    start: np.ndarray
    end: np.ndarray
    size: np.ndarray
    bucket: np.ndarray
    skipped: int
    pieces: int


def build_index(files: list[SourceFile], *, piece_bytes: int | None, encoding: str, field: str) -> Index:
    """Reads every file once; `piece_bytes=None` cuts nothing. Raises what `scan_plain` and `scan_jsonl` raise, and
    OSError (of the kind met) for a file that cannot be read."""
    table = _Table()
    records = tuple(table.read(file, piece_bytes, encoding, field) for file in files)
    return Index(
        files=records,
        file=np.asarray(table.file, np.int32),
        start=np.asarray(table.start, np.int64),
        end=np.asarray(table.end, np.int64),
        size=np.asarray(table.size, np.int64),
        bucket=np.asarray(table.bucket, np.int32),
        skipped=table.skipped,
        pieces=table.pieces,
    )


def split_of_bucket(bucket: np.ndarray, fractions: tuple[float, float, float]) -> np.ndarray:
    """(n,) buckets to (n,) splits: 0, 1 or 2, in the proportions given."""
    bounds = np.round(np.cumsum(fractions[:2]) * _BUCKETS)
    return np.searchsorted(bounds, bucket, side="right")


class _Table:
    """The columns of an Index while they grow."""

    def __init__(self):
        self.file, self.bucket = array("i"), array("i")
        self.start, self.end, self.size = array("q"), array("q"), array("q")
        self.skipped = self.pieces = self._files = 0

    def read(self, file: SourceFile, piece_bytes: int | None, encoding: str, field: str) -> FileRecord:
        """Adds the documents of one file."""
        jsonl = file.path.lower().endswith(".jsonl")
        digest, offset, before = hashlib.sha256(), 0, len(self.file)
        for raw, document in _scan(file.path, jsonl, piece_bytes, encoding, field):
            digest.update(raw)
            self._add(document, offset, offset + len(raw))
            offset += len(raw)
        self.skipped += offset == 0
        found = len(self.file) - before
        self.pieces += found if found > 1 and not jsonl else 0
        self._files += 1
        return FileRecord(file.path, file.name, jsonl, offset, digest.hexdigest())

    def _add(self, document: bytes, start: int, end: int) -> None:
        if not document:
            self.skipped += 1
            return
        self.file.append(self._files)
        self.start.append(start)
        self.end.append(end)
        self.size.append(len(document))
        self.bucket.append(int.from_bytes(hashlib.sha256(document).digest()[:8], "big") % _BUCKETS)


def _scan(path: str, jsonl: bool, piece_bytes: int | None, encoding: str, field: str) -> Iterator[tuple[bytes, bytes]]:
    try:
        with open(path, "rb") as file:
            if jsonl:
                yield from scan_jsonl(file, path, field=field)
            else:
                limit = piece_bytes or max(os.fstat(file.fileno()).st_size, 1)
                yield from scan_plain(file, path, piece_bytes=limit, encoding=encoding)
    except OSError as error:
        raise unreadable(error, path) from error
