"""Files of token ids: *.bin, as nanoGPT and llm.c write them.

nanoGPT: nothing but uint16, little-endian. llm.c: a header of 256 int32 (magic, version, number of ids), then the ids:
magic 20240520 with version 1 has uint16, magic 20240801 with version 7 has uint32. Documents are what stands between
two of the tokenizer's `bos`, wherever it is written: before a document, or after.
"""

import hashlib
from array import array
from pathlib import Path

import numpy as np

from jaxseq.data.corpus import check_splits
from jaxseq.data.files import SourceFile, unreadable
from jaxseq.data.index import FileRecord, Index, bucket_of, split_of_bucket
from jaxseq.data.token_corpus import FileTokens, TokenCorpus, between
from jaxseq.data.tokenizer import Tokenizer

_HEADER = 1024  # bytes
_FORMATS = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}


def open_token_files(
    source: str,
    files: list[SourceFile],
    tokenizer: Tokenizer,
    *,
    piece_tokens: int,
    fractions: tuple[float, float, float],
) -> TokenCorpus:
    """Reads every file once. A document longer than `piece_tokens` is cut. A document's split depends on its bytes, as
    for text, so that the tokens of a text are in its split.

    Raises ValueError: a file that is not such a file or is cut short, or an id that the tokenizer does not have, naming
    the byte offset; no documents in a split. OSError: a file that cannot be read.
    """
    columns = [array(kind) for kind in "iqqqi"]
    arrays, records, skipped = [], [], 0
    for number, file in enumerate(files):
        ids, record = _open(file, tokenizer)
        arrays.append(ids)
        records.append(record)
        for start, end in between(ids, tokenizer.bos, piece_tokens):
            document = tokenizer.decode(np.asarray(ids[start:end]))
            skipped += not document
            if document:
                for column, value in zip(
                    columns, (number, start, end, len(document), bucket_of(document)), strict=True
                ):
                    column.append(value)
    file_, start, end, size, bucket = (np.asarray(column) for column in columns)
    index = Index(tuple(records), file_, start, end, size, bucket, skipped, 0)
    split = split_of_bucket(bucket, fractions)
    check_splits(source, index, split, piece_tokens, fractions)
    return TokenCorpus(source, index, split, FileTokens(arrays, file_, start, end), tokenizer)


def _open(file: SourceFile, tokenizer: Tokenizer) -> tuple[np.ndarray, FileRecord]:
    path = Path(file.path)
    try:
        with path.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        ids = _ids(path)
    except OSError as error:
        raise unreadable(error, file.path) from error
    largest = int(ids.argmax()) if len(ids) else 0
    if len(ids) and ids[largest] >= tokenizer.vocab:
        offset = path.stat().st_size - (len(ids) - largest) * ids.itemsize
        raise ValueError(
            f"data.source: {path} has the id {ids[largest]} at byte offset {offset}, but {tokenizer.name} has "
            f"{tokenizer.vocab} ids: name in data.tokenizer the one that made the file"
        )
    return ids, FileRecord(file.path, file.name, False, path.stat().st_size, sha256)


def _ids(path: Path) -> np.ndarray:
    size = path.stat().st_size
    header = np.fromfile(path, "<i4", 3) if size >= _HEADER else np.zeros(3, np.int32)
    dtype = _FORMATS.get((int(header[0]), int(header[1])))
    start, count = (_HEADER, int(header[2])) if dtype else (0, size // 2)
    dtype = dtype or np.dtype("<u2")
    if start + count * dtype.itemsize != size:
        raise ValueError(
            f"data.source: {path} must have {start + count * dtype.itemsize} bytes for {count} ids, it ends at byte "
            f"offset {size}: get it again"
        )
    return np.memmap(path, dtype, "r", start, (count,)) if count else np.zeros(0, dtype)
