"""The record of a corpus, and the compressor beside it."""

import hashlib
import json
import lzma
import platform

import pytest

from jaxseq.data import manifest, open_corpus, xz_bits_per_byte

ALL_TRAIN = (1.0, 0.0, 0.0)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "long.txt").write_bytes(b"line of text\n" * 50)
    (tmp_path / "short.txt").write_bytes(b"short\n")
    (tmp_path / "zero.txt").touch()
    return open_corpus(str(tmp_path), piece_bytes=100, fractions=ALL_TRAIN)


def test_files_are_named_relative_to_the_source_with_their_sha256(corpus):
    content = b"line of text\n" * 50
    assert manifest(corpus)["files"][0] == {
        "path": "below/long.txt",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_a_split_has_the_sha256_of_its_documents_joined(corpus):
    joined = b"line of text\n" * 50 + b"short\n"
    assert manifest(corpus)["splits"]["train"] == {
        "documents": len(corpus.documents("train")),
        "bytes": len(joined),
        "sha256": hashlib.sha256(joined).hexdigest(),
    }


def test_pieces_and_skipped_documents_are_counted(corpus):
    record = manifest(corpus)
    assert (record["pieces"], record["skipped"]) == (8, 1)


def test_the_source_is_recorded_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    record = manifest(open_corpus("*.txt", encoding="bytes", fractions=ALL_TRAIN))
    assert (record["source"], record["encoding"]) == ("*.txt", "bytes")


def test_it_survives_json(corpus):
    record = manifest(corpus)
    assert json.loads(json.dumps(record)) == record


def test_it_is_the_same_when_the_corpus_is_opened_again(corpus):
    again = open_corpus(corpus.source, piece_bytes=100, fractions=ALL_TRAIN)
    assert manifest(again) == manifest(corpus)


def test_the_python_version_is_recorded_for_stdlib_alone(corpus):
    assert "python" not in manifest(corpus)
    assert manifest(open_corpus("stdlib"))["python"] == platform.python_version()


def test_xz_streamed_equals_xz_at_once():
    documents = open_corpus("stdlib").documents("validation")
    joined = b"".join(documents)
    compressed = lzma.compress(joined, preset=9 | lzma.PRESET_EXTREME)
    assert xz_bits_per_byte(documents) == 8 * len(compressed) / len(joined)


def test_xz_of_no_documents_is_refused(corpus):
    with pytest.raises(ValueError, match="documents must hold at least one document, got none"):
        xz_bits_per_byte(corpus.documents("test"))
