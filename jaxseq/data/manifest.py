"""What a run was trained on, to the byte, and what a general compressor makes of it."""

import platform
from typing import Any

from jaxseq.data.corpus import SPLITS, Corpus, Documents
from jaxseq.data.mixture import Mixture


def manifest(corpus: Corpus) -> dict[str, Any]:
    """A JSON-able record of a corpus; equal manifests mean equal bytes in equal splits. Reads every document
    once, but for a prepared folder, which has the record.

    Returns:
      source, encoding: as given to `open_corpus`;
      python: the Python version, for "stdlib" alone, whose files differ between versions;
      pieces, skipped: how many documents are pieces of a larger file, how many empty ones were left out;
      parts: of a mixture alone, [{weight, and the manifest of a source}];
      files: [{path (relative to the source), bytes, sha256}], what came out where a file was packed;
      splits: {name: {documents, bytes, sha256 of the documents one after another}}.
    """
    if isinstance(corpus, Mixture):
        parts = [{"weight": w, **manifest(c)} for w, c in zip(corpus.weights, corpus.corpora, strict=True)]
        return {"source": corpus.source, "parts": parts, "splits": _splits(corpus)}
    python = {"python": platform.python_version()} if corpus.source == "stdlib" else {}
    return {
        "source": corpus.source,
        "encoding": corpus.encoding,
        **python,
        "pieces": corpus.pieces,
        "skipped": corpus.skipped,
        "files": [{"path": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in corpus.files],
        "splits": _splits(corpus),
    }


def xz_bits_per_byte(documents: Documents) -> float:
    """Bits per byte of all documents, one after another, under xz at preset 9 extreme, container included.

    A fair figure beside a model's: the compressor sees the same bytes in the same order, though it starts from nothing.
    Raises ValueError: no documents.
    """
    # Not at the top: a Python built without liblzma can still train.
    import lzma

    if not len(documents):
        raise ValueError("documents must hold at least one document, got none")
    compressor = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    compressed = sum(len(compressor.compress(documents[i])) for i in range(len(documents)))
    return 8 * (compressed + len(compressor.flush())) / int(documents.sizes.sum())


def _splits(corpus: Corpus) -> dict[str, Any]:
    return {name: corpus.summary(name) for name in SPLITS}
