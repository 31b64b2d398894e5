"""One streaming pass over the files: which documents there are, where, and in which split."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxseq.data.files import SourceFile, unreadable
from jaxseq.data.jsonl import scan_jsonl
from jaxseq.data.plain import scan_delimited, scan_plain, scan_stops

_BUCKETS = 10_000


@dataclass(frozen=True)
class FileRecord:
    """A file that was read: how to open it, its name in the manifest, its length in bytes and its SHA-256 in hex; of
    one that was unpacked, the length and the hash of what came out.
    """

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


@dataclass(frozen=True)
class Cutting:
    """How files become documents: see `open_corpus`; `piece_bytes` None cuts nothing."""

    piece_bytes: int | None
    encoding: str
    field: str
    delimiter: str | None = None


def build_index(files: list[SourceFile], cutting: Cutting) -> Index:
    """Reads every file once. Raises what the scanners of `plain` and `jsonl` raise, and OSError (of the kind met) for a
    file that cannot be read.
    """
    table = _Table()
    records = tuple(table.read(file, cutting) for file in files)
    return table.index(records)


def bucket_of(document: bytes) -> int:
    """From 0 to 9999, the same for the same bytes: the first 8 bytes of their SHA-256, big-endian, modulo 10000."""
    return int.from_bytes(hashlib.sha256(document).digest()[:8], "big") % _BUCKETS


def split_of_bucket(bucket: np.ndarray, fractions: tuple[float, float, float]) -> np.ndarray:
    """(n,) buckets to (n,) splits: 0, 1 or 2, in the proportions given."""
    bounds = np.round(np.cumsum(fractions[:2]) * _BUCKETS)
    return np.searchsorted(bounds, bucket, side="right")


class _Table:
    """The columns of an Index while they grow."""

    def __init__(self):
        self._file, self._bucket = array("i"), array("i")
        self._start, self._end, self._size = array("q"), array("q"), array("q")
        self._skipped = self._pieces = self._files = 0

    def read(self, file: SourceFile, cutting: Cutting) -> FileRecord:
        """Adds the documents of one file."""
        jsonl = file.path.lower().endswith(".jsonl")
        digest, offset, before = hashlib.sha256(), 0, len(self._file)
        for raw, document in _scan(file, jsonl, cutting):
            digest.update(raw)
            self._add(document, offset, offset + len(raw))
            offset += len(raw)
        self._skipped += offset == 0
        found = len(self._file) - before
        whole = jsonl or file.stops or cutting.delimiter
        self._pieces += found if found > 1 and not whole else 0
        self._files += 1
        return FileRecord(file.path, file.name, jsonl, offset, digest.hexdigest())

    def index(self, files: tuple[FileRecord, ...]) -> Index:
        """What was read."""
        return Index(
            files=files,
            file=np.asarray(self._file, np.int32),
            start=np.asarray(self._start, np.int64),
            end=np.asarray(self._end, np.int64),
            size=np.asarray(self._size, np.int64),
            bucket=np.asarray(self._bucket, np.int32),
            skipped=self._skipped,
            pieces=self._pieces,
        )

    def _add(self, document: bytes, start: int, end: int) -> None:
        if not document:
            self._skipped += 1
            return
        self._file.append(self._files)
        self._start.append(start)
        self._end.append(end)
        self._size.append(len(document))
        self._bucket.append(bucket_of(document))


def _scan(source: SourceFile, jsonl: bool, cutting: Cutting) -> Iterator[tuple[bytes, bytes]]:
    path, encoding = source.path, cutting.encoding
    try:
        with open(path, "rb") as file:
            if source.stops is not None:
                yield from scan_stops(file, source.name, stops=np.load(source.stops).tolist(), encoding=encoding)
            elif jsonl:
                yield from scan_jsonl(file, path, field=cutting.field)
            elif cutting.delimiter:
                yield from scan_delimited(file, path, delimiter=cutting.delimiter.encode(), encoding=encoding)
            else:
                limit = cutting.piece_bytes or max(os.fstat(file.fileno()).st_size, 1)
                yield from scan_plain(file, path, piece_bytes=limit, encoding=encoding)
    except OSError as error:
        raise unreadable(error, path) from error
