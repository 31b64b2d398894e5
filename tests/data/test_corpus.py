"""Which documents a corpus has, where they fall, and how they are read."""

import hashlib
import sysconfig

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import open_corpus
from jaxseq.data.index import split_of_bucket
from jaxseq.data.plain import scan_plain

ALL_TRAIN = (1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def stdlib():
    return open_corpus("stdlib")


def everything(corpus):
    return [document for split in ("train", "validation", "test") for document in corpus.documents(split)]


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def names(corpus):
    return [file.name for file in corpus.files]


def test_stdlib_is_sorted_python_source_without_tests(stdlib):
    assert names(stdlib) == sorted(names(stdlib))
    assert {"abc.py", "json/decoder.py"} <= set(names(stdlib))
    assert all(name.endswith(".py") for name in names(stdlib))
    unwanted = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages"}
    assert not any(unwanted & set(name.split("/")) for name in names(stdlib))


def test_stdlib_files_are_never_cut(stdlib):
    assert stdlib.pieces == 0
    assert len(everything(stdlib)) == sum(file.bytes > 0 for file in stdlib.files)
    assert max(file.bytes for file in stdlib.files) > 65536


def test_a_document_of_stdlib_is_the_file(stdlib):
    with open(f"{sysconfig.get_path('stdlib')}/abc.py", "rb") as file:
        assert file.read() in everything(stdlib)


def test_splits_are_disjoint_and_cover_the_corpus(stdlib):
    splits = [set(stdlib.documents(name)) for name in ("train", "validation", "test")]
    assert sum(map(len, splits)) == len(set().union(*splits))
    assert sum(len(stdlib.documents(name)) for name in ("train", "validation", "test")) == len(stdlib.index.size)


def test_a_split_holds_about_its_fraction(stdlib):
    total = len(stdlib.index.size)
    assert abs(len(stdlib.documents("train")) / total - 0.9) < 0.04


def test_the_split_is_the_hash_of_the_bytes(tmp_path):
    documents = [f"document {i}\n".encode() for i in range(200)]
    corpus = open_corpus(str(write(tmp_path, {f"{i}.txt": d for i, d in enumerate(documents)})))
    bucket = {d: int(hashlib.sha256(d).hexdigest()[:16], 16) % 10000 for d in documents}
    assert set(corpus.documents("train")) == {d for d in documents if bucket[d] < 9000}
    assert set(corpus.documents("validation")) == {d for d in documents if 9000 <= bucket[d] < 9500}


def test_fractions_are_bounds_on_the_bucket():
    buckets = np.array([0, 8999, 9000, 9499, 9500, 9999])
    assert split_of_bucket(buckets, (0.90, 0.05, 0.05)).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_document_keeps_its_split_when_others_come_and_go(tmp_path):
    files = {f"{i}.txt": f"document {i}\n".encode() for i in range(300)}
    before = open_corpus(str(write(tmp_path / "before", files)))
    after = open_corpus(str(write(tmp_path / "after", {f"moved/{k}": v for k, v in list(files.items())[100:]})))
    for split in ("train", "validation", "test"):
        assert set(after.documents(split)) <= set(before.documents(split))


def test_duplicates_fall_in_one_split(tmp_path):
    files = {f"{copy}/{i}.txt": f"document {i}\n".encode() for copy in "ab" for i in range(100)}
    corpus = open_corpus(str(write(tmp_path, files)))
    for split in ("train", "validation", "test"):
        documents = list(corpus.documents(split))
        assert len(documents) == 2 * len(set(documents))


def test_a_directory_is_read_recursively_sorted_and_without_hidden_files(tmp_path):
    write(tmp_path, {"b.txt": b"b", "a/c.txt": b"c", ".hidden": b"x", ".git/config": b"y", "a/.d": b"z"})
    assert names(open_corpus(str(tmp_path), fractions=ALL_TRAIN)) == ["a/c.txt", "b.txt"]


def test_two_stars_look_in_all_directories(tmp_path):
    write(tmp_path, {"a.txt": b"a", "x/y/b.txt": b"b", "x/c.md": b"c"})
    corpus = open_corpus(str(tmp_path / "**" / "*.txt"), fractions=ALL_TRAIN)
    assert names(corpus) == ["a.txt", "x/y/b.txt"]


def test_a_relative_pattern_gives_relative_names(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path, {"one/a.txt": b"a", "two/a.txt": b"b"}))
    corpus = open_corpus("*/a.txt", fractions=ALL_TRAIN)
    assert [(file.name, file.path) for file in corpus.files] == [(n, n) for n in ("one/a.txt", "two/a.txt")]


def test_an_existing_name_is_not_read_as_a_pattern(tmp_path):
    write(tmp_path, {"a[1].txt": b"brackets", "a1.txt": b"plain"})
    assert everything(open_corpus(str(tmp_path / "a[1].txt"), fractions=ALL_TRAIN)) == [b"brackets"]


def test_empty_files_are_skipped_and_counted(tmp_path):
    corpus = open_corpus(str(write(tmp_path, {"a": b"", "b": b"text", "c": b""})), fractions=ALL_TRAIN)
    assert everything(corpus) == [b"text"]
    assert corpus.skipped == 2


@given(st.lists(st.sampled_from([b"\n", b"a", b"word "]), min_size=1).map(b"".join), st.integers(1, 12))
def test_pieces_join_to_the_file_and_end_at_newlines(tmp_path_factory, content, piece_bytes):
    path = tmp_path_factory.mktemp("pieces") / "file"
    path.write_bytes(content)
    with open(path, "rb") as file:
        pieces = [piece for piece, _ in scan_plain(file, "file", piece_bytes=piece_bytes, encoding="utf-8")]
    assert b"".join(pieces) == content
    rest = content
    for piece in pieces:
        newline = rest[:piece_bytes].rfind(b"\n", piece_bytes // 2)
        cut = newline + 1 if newline >= 0 else piece_bytes
        assert len(piece) == (len(rest) if len(rest) <= piece_bytes else cut)
        rest = rest[len(piece) :]


def test_a_long_file_is_cut_and_its_pieces_are_counted(tmp_path):
    write(tmp_path, {"long.txt": b"0123456\n" * 100, "short.txt": b"short\n"})
    corpus = open_corpus(str(tmp_path), piece_bytes=100, fractions=ALL_TRAIN)
    documents = everything(corpus)
    assert corpus.pieces == len(documents) - 1 == 9
    assert b"".join(documents) == b"0123456\n" * 100 + b"short\n"


@given(st.data())
def test_read_is_a_slice_of_the_document(stdlib, data):
    documents = stdlib.documents("test")
    i = data.draw(st.integers(0, len(documents) - 1))
    start = data.draw(st.integers(0, int(documents.sizes[i])))
    stop = data.draw(st.integers(start, int(documents.sizes[i])))
    assert documents.read(i, start, stop) == documents[i][start:stop]


def test_reading_part_of_a_document_reads_no_more_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000 + b"needle" + b"x" * 5000)
    documents = open_corpus(str(path), fractions=ALL_TRAIN).documents("train")
    asked = []

    class Counting:
        def __init__(self, *args, **kwargs):
            self.file = original(*args, **kwargs)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, offset):
            return self.file.seek(offset)

        def read(self, n):
            asked.append(n)
            return self.file.read(n)

    original = open
    monkeypatch.setattr("builtins.open", Counting)
    assert documents.read(0, 5000, 5006) == b"needle"
    assert asked == [6]


def test_sizes_are_the_lengths_of_the_documents(stdlib):
    documents = stdlib.documents("validation")
    assert documents.sizes.tolist() == [len(document) for document in documents]


def test_documents_are_numbered_as_a_list_is(stdlib):
    documents = stdlib.documents("test")
    assert documents[-1] == documents[np.int64(len(documents) - 1)]
    with pytest.raises(IndexError):
        documents[len(documents)]
