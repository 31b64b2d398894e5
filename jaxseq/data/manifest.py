"""What a run was trained on, to the byte, and what a general compressor makes of it."""

import hashlib
import platform

from jaxseq.data.corpus import SPLITS, Corpus, Documents


def manifest(corpus: Corpus) -> dict:
    """A JSON-able record of a corpus; equal manifests mean equal bytes in equal splits. Reads every document once.

    Returns:
      source, encoding: as given to `open_corpus`;
      python: the Python version, for "stdlib" alone, whose files differ between versions;
      pieces, skipped: how many documents are pieces of a larger file, how many empty ones were left out;
      files: [{path (relative to the source), bytes, sha256}];
      splits: {name: {documents, bytes, sha256 of the documents one after another}}.
    """
    python = {"python": platform.python_version()} if corpus.source == "stdlib" else {}
    return {
        "source": corpus.source,
        "encoding": corpus.encoding,
        **python,
        "pieces": corpus.pieces,
        "skipped": corpus.skipped,
        "files": [{"path": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in corpus.files],
        "splits": {name: _split(corpus.documents(name)) for name in SPLITS},
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


def _split(documents: Documents) -> dict:
    digest = hashlib.sha256()
    for i in range(len(documents)):
        digest.update(documents[i])
    return {"documents": len(documents), "bytes": int(documents.sizes.sum()), "sha256": digest.hexdigest()}
