"""Compressed files, parquet, ArrayRecord and delimited text hold the same documents as files of their own."""

import gzip
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import manifest, open_corpus
from jaxseq.data.plain import scan_delimited

ALL_TRAIN = (1.0, 0.0, 0.0)
TEXTS = ["one", "zwei ä\n", "😀" * 20, "", "last"]
RNG = np.random.default_rng(0)
LINES = "".join(json.dumps({"text": t, "n": i}) + "\n" for i, t in enumerate(TEXTS)).encode()
NOISE = b"".join(b'{"text": "%x"}\n' % RNG.integers(1 << 60) for _ in range(2000))  # does not compress to nothing


def found(path, **options):
    corpus = open_corpus(str(path), fractions=ALL_TRAIN, **options)
    return [document.decode() for document in corpus.documents("train")]


def parquet(path, column=TEXTS, **options):
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(len(column))), "text": column}), path, **options)
    return path


def array_record(path, records):
    writer = ArrayRecordWriter(str(path), "group_size:2")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def packed(path, lines=LINES):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines, mtime=0))
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(lines))
    elif path.suffix == ".parquet":
        parquet(path, [*TEXTS[:2], None, *TEXTS[2:]])
    else:
        array_record(path, [t.encode() for t in TEXTS])
    return path


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.array_record"])
def test_documents_are_those_that_were_packed(tmp_path, name):
    assert found(packed(tmp_path / name)) == [t for t in TEXTS if t]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.array_record"])
def test_a_part_of_a_document_is_that_part(tmp_path, name):
    corpus = open_corpus(str(packed(tmp_path / name)), fractions=ALL_TRAIN)
    assert corpus.documents("train").read(3, 1, 3) == b"as"


def test_several_members_and_frames_are_one_text(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one, ") + gzip.compress(b"two, "))
    (tmp_path / "b.txt.zst").write_bytes(zstandard.compress(b"three, ") + zstandard.compress(b"four"))
    assert found(tmp_path) == ["one, two, ", "three, four"]


def test_a_packed_file_is_unpacked_once_and_again_when_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"before", mtime=0))
    assert found(path) == ["before"]
    with monkeypatch.context() as patch:
        patch.setattr("jaxseq.data.unpack._copy", None)
        assert found(path) == ["before"]
    path.write_bytes(gzip.compress(b"after", mtime=0))
    assert found(path) == ["after"]


def test_the_manifest_names_the_packed_file(tmp_path):
    corpus = open_corpus(str(packed(tmp_path / "a.jsonl.gz")), fractions=ALL_TRAIN)
    assert [(file["path"], file["bytes"]) for file in manifest(corpus)["files"]] == [("a.jsonl.gz", len(LINES))]


def test_the_column_of_a_parquet_file_is_chosen_by_name(tmp_path):
    table = pyarrow.table({"text": ["no"], "body": pyarrow.array(["yes"], pyarrow.large_string())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [found(tmp_path / "a.parquet", field=field) for field in ("text", "body")] == [["no"], ["yes"]]


def test_a_column_that_is_not_there_or_not_text_is_named(tmp_path):
    parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"data.field='body' is no column of .*a.parquet; its columns are n, text"):
        found(tmp_path / "a.parquet", field="body")
    with pytest.raises(ValueError, match=r"data.field='n' holds int64 in .*a.parquet: name a column of text"):
        found(tmp_path / "a.parquet", field="n")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_truncated_file_names_itself_and_where_it_ends(tmp_path, name):
    path = packed(tmp_path / name, NOISE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{path} is damaged at or after byte offset {len(whole) // 2} .it ends in"):
        found(path)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_flipped_byte_names_the_file_and_an_offset(tmp_path, name):
    path = packed(tmp_path / name, NOISE)
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=rf"data.source: {path} is damaged at or after byte offset \d+ \("):
        found(path)


def test_a_broken_footer_of_a_parquet_file_is_named(tmp_path):
    path = parquet(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    offset = path.stat().st_size - 8
    with pytest.raises(ValueError, match=rf"{path} is damaged at or after byte offset {offset} .its footer"):
        found(path)


def test_a_broken_page_of_a_parquet_file_is_named_with_its_row_group(tmp_path):
    texts = [f"{i:030}" for i in range(4000)]
    path = parquet(tmp_path / "a.parquet", texts, row_group_size=2000, compression="zstd", use_dictionary=False)
    column = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1)
    broken = bytearray(path.read_bytes())
    start = column.data_page_offset
    broken[start + 40 : start + 200] = bytes(160)
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=rf"{path} is damaged at or after byte offset {start} .row group 1"):
        found(path)


def test_a_broken_record_is_named(tmp_path):
    path = array_record(tmp_path / "a.array_record", [RNG.bytes(5000) for _ in range(20)])
    broken = bytearray(path.read_bytes())
    broken[40_000] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=rf"data.source: {path} is damaged at record \d+ \("):
        found(path, encoding="bytes")


def test_a_record_that_is_not_utf8_is_named(tmp_path):
    path = array_record(tmp_path / "a.array_record", [b"fine", b"ab\xff"])
    with pytest.raises(ValueError, match=r"a.array_record, record 1, is not UTF-8 at byte offset 2"):
        found(path)


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("a.jsonl.zst", "zstandard", "zstd"), ("a.parquet", "pyarrow.parquet", "parquet")]
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, module, extra):
    path = packed(tmp_path / name, b'{"text": "never unpacked before"}')
    if name == "a.parquet":
        parquet(path, ["never unpacked before"])
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ValueError, match=rf"data.source: .* needs the package .*jaxseq\[{extra}\]"):
        found(path)


def test_a_delimiter_is_the_only_place_where_a_file_is_cut(tmp_path):
    (tmp_path / "a.txt").write_text("one\nmore<|end|>two<|end|><|end|>" + "x" * 300)
    corpus = open_corpus(str(tmp_path), delimiter="<|end|>", piece_bytes=10, fractions=ALL_TRAIN)
    assert list(corpus.documents("train")) == [b"one\nmore", b"two", b"x" * 300]
    assert (corpus.skipped, corpus.pieces) == (1, 0)


@given(st.lists(st.sampled_from([b"|", b"-", b"a"])).map(b"".join), st.integers(1, 7))
def test_documents_between_delimiters_are_those_of_split_whatever_the_chunks(content, chunk):
    class Slow:
        def __init__(self):
            self.left = content

        def read(self, _):
            part, self.left = self.left[:chunk], self.left[chunk:]
            return part

    pairs = list(scan_delimited(Slow(), "a", delimiter=b"|-|", encoding="utf-8"))
    expected = content.split(b"|-|")
    assert [document for _, document in pairs] == (expected if expected[-1] else expected[:-1])
    assert b"".join(raw for raw, _ in pairs) == content


def test_an_empty_delimiter_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data.delimiter must not be empty"):
        open_corpus(str(tmp_path), delimiter="")
