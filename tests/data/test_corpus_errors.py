"""What a user is told when a corpus cannot be opened."""

import os
import re

import pytest

from jaxseq.data import open_corpus


def test_a_missing_source_is_named_as_it_was_given():
    with pytest.raises(FileNotFoundError, match=r"data.source='no/such.txt' does not exist: give a file, a directory"):
        open_corpus("no/such.txt")


def test_a_pattern_that_matches_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape("data.source='*.txt' matches no file: check the pattern")):
        open_corpus("*.txt")


def test_a_pattern_that_matches_directories_only(tmp_path):
    (tmp_path / "below").mkdir()
    with pytest.raises(FileNotFoundError, match="matches no file"):
        open_corpus(str(tmp_path / "*"))


def test_an_empty_directory(tmp_path):
    (tmp_path / ".hidden").write_text("text")
    with pytest.raises(FileNotFoundError, match="is a directory with no file in it"):
        open_corpus(str(tmp_path))


def test_nothing_but_empty_files(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    with pytest.raises(ValueError, match=r"data.source=.* holds no text: its files are empty \(2 skipped\)"):
        open_corpus(str(tmp_path))


def deny(path, *_, **__):
    raise PermissionError(13, "Permission denied", path)


def test_a_file_one_may_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("text")
    monkeypatch.setattr("builtins.open", deny)
    with pytest.raises(PermissionError, match=f"data.source: cannot read {path} .Permission denied.: give a file"):
        open_corpus(str(path))


def test_a_directory_one_may_not_list(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(PermissionError, match=f"data.source: cannot read {tmp_path}"):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("content", "offset"),
    [("ä€😀".encode() + b"\xff tail", 9), (b"abc\xe2\x82", 3), (b"ab\xe2\x82 x", 2), (b"\xff\xfea\x00", 0)],
)
def test_the_first_byte_that_is_not_utf8_is_named_whatever_the_pieces(tmp_path, content, offset, piece_bytes):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    expected = re.escape(f"{path} is not UTF-8 at byte offset {offset}: convert the file, or set ")
    with pytest.raises(ValueError, match=expected + 'data.encoding="bytes", which trains on raw bytes'):
        open_corpus(str(path), piece_bytes=piece_bytes)


def test_raw_bytes_are_taken_as_they_are(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\x00\xfe")
    corpus = open_corpus(str(tmp_path), encoding="bytes", fractions=(1, 0, 0))
    assert list(corpus.documents("train")) == [b"\xff\x00\xfe"]


@pytest.mark.parametrize("fractions", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
def test_a_split_of_fraction_zero_may_be_empty(tmp_path, fractions):
    (tmp_path / "a").write_text("text")
    assert open_corpus(str(tmp_path), fractions=fractions).index.size.tolist() == [4]


def test_a_train_or_validation_split_without_a_document_says_what_to_do(tmp_path):
    (tmp_path / "a").write_text("text")
    with pytest.raises(
        ValueError, match=r"split is empty \(documents in all: 1\): give more .*data.piece_bytes below 64"
    ):
        open_corpus(str(tmp_path), piece_bytes=64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "latin-1"}, "data.encoding must be one of utf-8, bytes, got 'latin-1'"),
        ({"fractions": (0.9, 0.2, 0.1)}, "data.fractions must be three numbers from 0 to 1 that sum to 1, got"),
        ({"fractions": (1.5, -0.5, 0.0)}, "data.fractions must be"),
        ({"fractions": (0.5, 0.5)}, "data.fractions must be"),
        ({"fractions": (float("nan"), 0.5, 0.5)}, "data.fractions must be"),
        ({"piece_bytes": 0}, "data.piece_bytes must be at least 1, got 0"),
    ],
)
def test_an_argument_out_of_range_names_its_config_field(options, message):
    with pytest.raises(ValueError, match=message):
        open_corpus("stdlib", **options)


@pytest.fixture
def opened(tmp_path):
    path = tmp_path / "a"
    path.write_text("some text")
    return path, open_corpus(str(path), fractions=(1, 0, 0)).documents("train")


def test_a_file_that_shrank_since_is_an_error(opened):
    path, documents = opened
    path.write_text("some")
    with pytest.raises(OSError, match="a changed since the corpus was opened"):
        documents[0]


def test_a_file_that_went_away_since_is_an_error(opened):
    path, documents = opened
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"data.source: cannot read"):
        documents[0]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 10)])
def test_a_range_outside_the_document_is_refused(opened, start, stop):
    with pytest.raises(ValueError, match=f"start and stop must be ordered and from 0 to 9, got {start} and {stop}"):
        opened[1].read(0, start, stop)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        open_corpus("stdlib").documents("dev")
