"""A folder of tokens made ahead of time by `prepare`: read like the text they were made from.

    manifest.json                  what they are of, how many, the hash of every file
    tokenizer.json                 what made them, unless that is bytes
    00000.array_record, ...        a record is the ids of a document, uint16 or uint32, little-endian, without `bos`
    00000.npz, ...                 tokens, bytes and bucket (see `bucket_of`) of each of its documents

Documents are in the order of the source, so they give the same batches.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxseq.data.corpus import check_splits
from jaxseq.data.files import unreadable
from jaxseq.data.index import FileRecord, Index, split_of_bucket
from jaxseq.data.token_corpus import TokenCorpus
from jaxseq.data.tokenised import id_dtype
from jaxseq.data.tokenizer import Tokenizer

FORMAT = "jaxseq tokens 1"
MANIFEST = "manifest.json"


class PreparedCorpus(TokenCorpus):
    """A prepared folder; `recorded` is the manifest of its source, as `manifest` made it."""

    recorded: dict[str, Any]

    def summary(self, split: str) -> dict[str, Any]:
        """Documents, bytes and SHA-256 of a split as they were recorded, so that nothing is read."""
        return self.recorded["splits"][split]


class RecordTokens:
    """Documents that are records of ArrayRecord files, one file after another."""

    def __init__(self, paths: list[str], counts: np.ndarray, dtype: np.dtype):
        # Not at the top: grain's reader is needed for these folders alone.
        from grain.sources import ArrayRecordDataSource

        self._records = ArrayRecordDataSource(paths)
        self._dtype = dtype
        self.counts = counts

    def read(self, i: int, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) of document i, (stop - start,) int32. Raises ValueError: its record is damaged."""
        try:
            ids = np.frombuffer(self._records[i], self._dtype)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"data.source: document {i} is damaged ({error}): prepare the folder again") from error
        if len(ids) != self.counts[i]:
            raise ValueError(f"data.source: document {i} must have {self.counts[i]} tokens, it has {len(ids)}")
        return ids[start:stop].astype(np.int32)


def is_prepared(source: str) -> bool:
    """Whether a source is a folder that `prepare` finished."""
    path = Path(source).expanduser() / MANIFEST
    if not path.is_file():
        return False
    try:
        return json.loads(path.read_text()).get("format") == FORMAT
    except (ValueError, AttributeError):
        return False


def open_prepared(source: str, tokenizer: Tokenizer, *, fractions: tuple[float, float, float]) -> TokenCorpus:
    """The corpus of a prepared folder. Reads the index, and the length of every shard, but no tokens.

    Raises ValueError: another tokenizer made it, a shard is not of its length, or a split has no documents. OSError: a
    file cannot be read.
    """
    folder = Path(source).expanduser()
    found = json.loads((folder / MANIFEST).read_text())
    if found["tokenizer"] != tokenizer.name:
        made = str(folder / "tokenizer.json") if found["tokenizer"] != "bytes" else "bytes"
        raise ValueError(
            f"data.source={source!r} holds tokens of {found['tokenizer']}, data.tokenizer is {tokenizer.name}: set "
            f"data.tokenizer={made}"
        )
    tables = [_table(folder, shard) for shard in found["shards"]]
    tokens, size, bucket = (np.concatenate([t[k] for t in tables]) for k in ("tokens", "bytes", "bucket"))
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t["tokens"]) for t in tables])
    record = np.arange(len(tokens), dtype=np.int64)
    paths = [str(folder / f"{s['name']}.array_record") for s in found["shards"]]
    files = tuple(
        FileRecord(path, Path(path).name, False, s["file_bytes"], s["sha256"])
        for path, s in zip(paths, found["shards"], strict=True)
    )
    origin = found["source"]
    index = Index(files, shard, record, record + 1, size, bucket, origin["skipped"], origin["pieces"])
    split = split_of_bucket(bucket, fractions)
    check_splits(source, index, split, 1, fractions)
    read = RecordTokens(paths, tokens, id_dtype(found["vocab"]))
    recorded = tuple(found["fractions"]) == fractions
    corpus = (PreparedCorpus if recorded else TokenCorpus)(source, index, split, read, tokenizer)
    if recorded:
        object.__setattr__(corpus, "recorded", origin)
    return corpus


def _table(folder: Path, shard: dict[str, Any]) -> dict[str, np.ndarray]:
    path = folder / f"{shard['name']}.array_record"
    try:
        size = path.stat().st_size
        with np.load(folder / f"{shard['name']}.npz") as columns:
            table = {name: columns[name] for name in ("tokens", "bytes", "bucket")}
    except OSError as error:
        raise unreadable(error, str(path)) from error
    if size != shard["file_bytes"]:
        raise ValueError(
            f"data.source: {path} must have {shard['file_bytes']} bytes, it ends at byte offset {size}: delete "
            f"{shard['name']}.json there and prepare the folder again"
        )
    return table
