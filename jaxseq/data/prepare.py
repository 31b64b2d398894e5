"""Tokens made ahead of time, in several processes, into a folder that `prepared` reads.

A shard is whole when its .json is there, which is written last; a call after a kill goes on with the others, and checks
the hashes of those that are there. `manifest.json` comes at the very end: without it the folder is no source.
"""

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxseq.data.cache import write_whole
from jaxseq.data.corpus import Corpus, Documents
from jaxseq.data.manifest import manifest
from jaxseq.data.prepared import FORMAT, MANIFEST
from jaxseq.data.tokenised import groups, id_dtype
from jaxseq.data.tokenizer import Tokenizer, save_tokenizer

FRACTIONS = (0.90, 0.05, 0.05)
Show = Callable[[int, int], None]


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    to: str | Path,
    *,
    workers: int = 1,
    shard_bytes: int = 1 << 26,
    show: Show = lambda done, total: None,
) -> dict[str, Any]:
    """Tokenises a corpus of files into the folder `to`, or finishes what an earlier call began.

    Args:
      corpus: of `open_corpus`, with its default fractions.
      tokenizer: any.
      to: the folder, made if missing.
      workers: processes; 1 is this one.
      shard_bytes: of text in a shard, about; a shard is what is lost when the call is killed.
      show: called with (shards that are whole, shards).

    Returns:
      The manifest that is also in the folder: {format, tokenizer, vocab, fractions, documents, tokens, bytes, shards:
      [{name, documents, tokens, bytes, file_bytes, sha256, index_sha256}], source: manifest(corpus)}.

    Raises ValueError: a corpus that is not of files, sizes below 1, or a folder that was begun with other data, another
    tokenizer or other sizes. ChildProcessError: a worker failed.
    """
    _check(corpus, workers, shard_bytes)
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    documents = Documents(corpus.index, np.arange(len(corpus.split)), corpus.field)
    _claim(folder, {"documents": documents.key, "tokenizer": tokenizer.name, "shard_bytes": shard_bytes})
    job = _Job(folder, documents, corpus.index.bucket, tokenizer, _ranges(documents.sizes, shard_bytes))
    _run(job, workers, show)
    save_tokenizer(tokenizer, folder)
    shards = [json.loads(job.file(number, ".json").read_text()) for number in range(len(job.parts))]
    totals = {name: sum(shard[name] for shard in shards) for name in ("documents", "tokens", "bytes")}
    head = {"format": FORMAT, "tokenizer": tokenizer.name, "vocab": tokenizer.vocab, "fractions": list(FRACTIONS)}
    summary = {**head, **totals, "shards": shards, "source": manifest(corpus)}
    write_whole(folder / MANIFEST, json.dumps(summary, indent=2).encode())
    return summary


def _check(corpus: Corpus, workers: int, shard_bytes: int) -> None:
    if type(corpus) is not Corpus:
        raise ValueError(f"source must be one source of text files to prepare, got {corpus.source!r}")
    if workers < 1 or shard_bytes < 1:
        raise ValueError(f"workers and shard_bytes must be at least 1, got {workers} and {shard_bytes}")


def _claim(folder: Path, plan: dict[str, Any]) -> None:
    """Records what the folder is made of, or checks it."""
    path = folder / "plan.json"
    if not path.exists():
        if any(folder.iterdir()):
            raise ValueError(f"--to={folder} has files that are not of prepared data: choose another folder")
        write_whole(path, json.dumps(plan, indent=2).encode())
    old = json.loads(path.read_text())
    changed = [f"{name}: {old.get(name)!r} -> {value!r}" for name, value in plan.items() if old.get(name) != value]
    if changed:
        raise ValueError(f"--to={folder} was begun with others ({'; '.join(changed)}): choose another folder")


def _ranges(sizes: np.ndarray, shard_bytes: int) -> list[tuple[int, int]]:
    """[first, stop) of the documents of each shard: those that begin in the same `shard_bytes` of text."""
    shard = (np.cumsum(sizes) - sizes) // shard_bytes
    stops = [*(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(sizes)]
    return list(zip([0, *stops[:-1]], stops, strict=True))


@dataclass(frozen=True)
class _Job:
    """What every process needs to know. `parts` are [first, stop) of the documents of each shard."""

    folder: Path
    documents: Documents
    bucket: np.ndarray
    tokenizer: Tokenizer
    parts: list[tuple[int, int]]

    def file(self, number: int, end: str) -> Path:
        return self.folder / f"{number:05}{end}"

    def is_whole(self, number: int) -> bool:
        if not self.file(number, ".json").is_file():
            return False
        shard = json.loads(self.file(number, ".json").read_text())
        wanted = {".array_record": shard["sha256"], ".npz": shard["index_sha256"]}
        return all(self.file(number, e).is_file() and _sha256(self.file(number, e)) == h for e, h in wanted.items())

    def make(self, number: int) -> None:
        """One shard, under other names until it is whole, its .json last."""
        counts = self._write_records(number)
        columns = {
            "tokens": np.array(counts, np.int64),
            "bytes": self.documents.sizes[slice(*self.parts[number])],
            "bucket": self.bucket[slice(*self.parts[number])],
        }
        half = self.file(number, f".tmp{os.getpid()}.npz")
        np.savez(half, allow_pickle=False, **columns)
        half.replace(self.file(number, ".npz"))
        shard = {
            "name": f"{number:05}",
            "documents": len(counts),
            "tokens": sum(counts),
            "bytes": int(columns["bytes"].sum()),
            "file_bytes": self.file(number, ".array_record").stat().st_size,
            "sha256": _sha256(self.file(number, ".array_record")),
            "index_sha256": _sha256(self.file(number, ".npz")),
        }
        write_whole(self.file(number, ".json"), json.dumps(shard).encode())

    def _write_records(self, number: int) -> list[int]:
        """Writes the ids of the documents of a shard; how many each has."""
        from array_record.python.array_record_module import ArrayRecordWriter

        (first, stop), dtype, counts = self.parts[number], id_dtype(self.tokenizer.vocab), []
        half = self.file(number, f".array_record.tmp{os.getpid()}")
        writer = ArrayRecordWriter(str(half), "group_size:1")  # documents are read one at a time, in any order
        for group in groups(self.documents.sizes[first:stop]):
            for ids in self.tokenizer.encode_all([self.documents.read(first + i) for i in group]):
                writer.write(ids.astype(dtype).tobytes())
                counts.append(len(ids))
        writer.close()
        half.replace(self.file(number, ".array_record"))
        return counts


def _run(job: _Job, workers: int, show: Show) -> None:
    """Makes the shards that are not whole, every `workers`-th of them in each process."""
    for half in job.folder.glob("*.tmp*"):
        half.unlink()
    total = len(job.parts)
    missing = [number for number in range(total) if not job.is_whole(number)]
    for number in missing:
        job.file(number, ".json").unlink(missing_ok=True)
    show(total - len(missing), total)
    if min(workers, len(missing)) > 1:
        _run_processes(job, missing, workers, show)
        return
    for done, number in enumerate(missing, start=total - len(missing) + 1):
        job.make(number)
        show(done, total)


def _run_processes(job: _Job, missing: list[int], workers: int, show: Show) -> None:
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of tokenizers and grain
    processes = [spawn.Process(target=_work, args=(job, missing[k::workers]), daemon=True) for k in range(workers)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes) and not any(process.exitcode for process in processes):
        time.sleep(0.1)
        done = sum(job.file(number, ".json").is_file() for number in missing)
        show(len(job.parts) - len(missing) + done, len(job.parts))
    failed = [process.exitcode for process in processes if process.exitcode]
    for process in processes:
        if failed:
            process.terminate()
        process.join()
    if failed:
        raise ChildProcessError(f"a worker ended with code {failed[0]} (see above); the same call goes on")


def _work(job: _Job, numbers: list[int]) -> None:
    """What one process does, until its parent is gone."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    parent = multiprocessing.parent_process()
    for number in numbers:
        if parent is None or not parent.is_alive():
            return
        job.make(number)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
