"""Files whose documents cannot be found by byte offsets: unpacked once, into the cache.

    x.jsonl.gz, x.txt.zst ...    -> the file inside
    x.parquet, x.array_record    -> its documents one after another, and where each ends

The cache has them under a hash of the packed file, so a file that changes is unpacked again.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxseq.data.cache import cached
from jaxseq.data.files import SourceFile, unreadable

_CHUNK = 1 << 20


def unpacked(file: SourceFile, *, field: str) -> SourceFile:
    """The file to read instead of a packed one, under the same name; any other file as it is.

    Raises ValueError: the file is damaged (naming the byte offset, or the row group or record), or has no text column
    `field`, or the package that reads it is missing. OSError: it cannot be read.
    """
    path = Path(file.path)
    suffix = path.suffix.lower()
    try:
        if suffix in _STREAMS:
            name = f"data{Path(path.stem).suffix.lower() or '.txt'}"
            folder = cached(f"unpacked/{_sha256(path)}", lambda half: _copy(_STREAMS[suffix], path, half / name))
            return SourceFile(str(folder / name), file.name)
        if suffix in _RECORDS:
            key = hashlib.sha256(f"{_sha256(path)} {field}".encode()).hexdigest()
            folder = cached(f"unpacked/{key}", lambda half: _join(_RECORDS[suffix](path, field), half))
            return SourceFile(str(folder / "data"), file.name, str(folder / "stops.npy"))
    except OSError as error:
        raise unreadable(error, file.path) from error
    return file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(stream: Callable[[], Any], path: Path, to: Path) -> None:
    with path.open("rb") as packed, to.open("wb") as out:
        for text in _inflated(packed, path, stream):
            out.write(text)


def _inflated(packed: BinaryIO, path: Path, stream: Callable[[], Any]) -> Iterator[bytes]:
    """What the frames (zstd) or members (gzip) of a file hold, one after another."""
    decoder: Any = None
    offset = 0
    while held := packed.read(_CHUNK):
        offset += len(held)
        while held:
            decoder = decoder or stream()
            try:
                text = decoder.decompress(held)
            except Exception as error:  # zlib.error, zstandard.ZstdError
                raise _damaged(path, offset - len(held), str(error)) from error
            held = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
            yield text
    if decoder is not None:
        raise _damaged(path, offset, "it ends in the middle")


def _damaged(path: Path, offset: int, why: str) -> ValueError:
    return ValueError(f"data.source: {path} is damaged at or after byte offset {offset} ({why}): get it again")


def _gzip() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _zstd() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise ValueError("data.source: .zst needs the package zstandard: pip install 'jaxseq[zstd]'") from error
    return zstandard.ZstdDecompressor().decompressobj()


def _join(documents: Iterator[bytes], folder: Path) -> None:
    stops, end = [], 0
    with (folder / "data").open("wb") as out:
        for document in documents:
            out.write(document)
            end += len(document)
            stops.append(end)
    np.save(folder / "stops.npy", np.array(stops, np.int64))


def _parquet(path: Path, field: str) -> Iterator[bytes]:
    """The texts of a column, row by row; a null is an empty text."""
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise ValueError("data.source: .parquet needs the package pyarrow: pip install 'jaxseq[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # pyarrow's own are subclasses
        raise _damaged(path, max(path.stat().st_size - 8, 0), f"its footer: {error}") from error
    names = file.schema_arrow.names
    if field not in names:
        raise ValueError(f"data.field={field!r} is no column of {path}; its columns are {', '.join(names)}: name one")
    kind = str(file.schema_arrow.field(field).type)
    if kind.removeprefix("large_") not in ("string", "binary"):
        raise ValueError(f"data.field={field!r} holds {kind} in {path}: name a column of text")
    for group in range(file.num_row_groups):
        try:
            values = file.read_row_group(group, columns=[field]).column(0).to_pylist()
        except (ValueError, OSError) as error:
            raise _damaged(
                path, _offset(file.metadata.row_group(group), field), f"row group {group}: {error}"
            ) from error
        yield from (value.encode() if isinstance(value, str) else value or b"" for value in values)


def _offset(row_group: Any, field: str) -> int:
    """Where the pages of a column begin."""
    columns = [row_group.column(i) for i in range(row_group.num_columns)]
    return next(column.data_page_offset for column in columns if column.path_in_schema == field)


def _array_record(path: Path, field: str) -> Iterator[bytes]:
    """The records, which are texts."""
    del field
    from array_record.python.array_record_module import ArrayRecordReader

    number = 0
    try:
        reader = ArrayRecordReader(str(path))
        for number in range(reader.num_records()):
            yield reader.read([number])[0]
        reader.close()
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"data.source: {path} is damaged at record {number} ({error}): get it again") from error


_STREAMS = {".gz": _gzip, ".zst": _zstd}
_RECORDS = {".parquet": _parquet, ".array_record": _array_record}
