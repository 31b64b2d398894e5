"""Plain files: cut into pieces, at a delimiter or at given places, and checked for UTF-8, in one streaming pass."""

import codecs
from collections.abc import Iterable, Iterator
from typing import BinaryIO

_CHUNK = 1 << 20


def scan_plain(file: BinaryIO, path: str, *, piece_bytes: int, encoding: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields (raw piece, document), which are the same bytes here, each at most `piece_bytes` long.

    A piece ends just after the last newline of its second half, or at `piece_bytes` where there is none (which may be
    inside a character). `encoding` is "utf-8" (checked) or "bytes" (not). Holds about one piece at a time.

    Raises ValueError: the file is not UTF-8; the message gives the offset of the first wrong byte.
    """
    check = _Utf8Check(path) if encoding == "utf-8" else None
    held = file.read(piece_bytes + 1)
    while held:
        last = len(held) <= piece_bytes
        end = len(held) if last else _cut(held, piece_bytes)
        piece, held = held[:end], held[end:]
        if check:
            check.feed(piece, last=last)
        yield piece, piece
        held += b"" if last else file.read(piece_bytes + 1 - len(held))


def scan_delimited(file: BinaryIO, path: str, *, delimiter: bytes, encoding: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields (document with the delimiter after it, document); a document is what stands between two delimiters, to the
    byte. Holds one document and a megabyte at a time. Raises as `scan_plain`.
    """
    check = _Utf8Check(path) if encoding == "utf-8" else None
    held, searched = b"", 0
    while chunk := file.read(_CHUNK):
        if check:
            check.feed(chunk, last=False)
        held += chunk
        start = 0
        while (end := held.find(delimiter, max(start, searched))) >= 0:
            yield held[start : end + len(delimiter)], held[start:end]
            start = end + len(delimiter)
        held = held[start:]
        searched = max(0, len(held) - len(delimiter) + 1)
    if check:
        check.feed(b"", last=True)
    if held:
        yield held, held


def scan_stops(file: BinaryIO, path: str, *, stops: Iterable[int], encoding: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields (document, document), the i-th ending before byte stops[i]. Raises ValueError: one is not UTF-8."""
    first = 0
    for number, stop in enumerate(stops):
        document = file.read(stop - first)
        first = stop
        if encoding == "utf-8":
            _Utf8Check(f"{path}, record {number},").feed(document, last=True)
        yield document, document


def _cut(held: bytes, piece_bytes: int) -> int:
    newline = held.rfind(b"\n", piece_bytes // 2, piece_bytes)
    return newline + 1 if newline >= 0 else piece_bytes


class _Utf8Check:
    """Raises at the first byte of a file that is not UTF-8, whatever pieces the file comes in."""

    def __init__(self, path: str):
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._offset = 0

    def feed(self, piece: bytes, *, last: bool) -> None:
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(piece, last)
        except UnicodeDecodeError as error:
            where = self._offset - pending + error.start
            raise ValueError(
                f"data.source: {self._path} is not UTF-8 at byte offset {where}: convert the file, or set "
                'data.encoding="bytes", which trains on raw bytes'
            ) from error
        self._offset += len(piece)
