"""JSON lines as documents."""

import json

import pytest

from jaxseq.data import open_corpus

ALL_TRAIN = (1.0, 0.0, 0.0)


def documents(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    corpus = open_corpus(str(path), fractions=ALL_TRAIN, **options)
    return corpus, corpus.documents("train")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lines.jsonl"


def test_every_line_is_a_document(path):
    texts = ["one", "zwei ä\n", "😀"]
    corpus, found = documents(path, "".join(json.dumps({"text": t}) + "\n" for t in texts))
    assert [d.decode() for d in found] == texts
    assert corpus.pieces == 0


def test_sizes_are_those_of_the_decoded_text(path):
    _, found = documents(path, '{"text": "\\u00e4"}\n{"text": "abc"}')
    assert found.sizes.tolist() == [2, 3]


def test_a_part_of_a_line_is_a_part_of_its_text(path):
    _, found = documents(path, '{"id": 1, "text": "first"}\n{"id": 2, "text": "second"}\n')
    assert found.read(1, 1, 4) == b"eco"


def test_the_field_is_chosen_by_name(path):
    _, found = documents(path, '{"text": "no", "body": "yes"}\n', field="body")
    assert list(found) == [b"yes"]


def test_a_line_is_never_cut(path):
    _, found = documents(path, json.dumps({"text": "x" * 5000}), piece_bytes=100)
    assert found.sizes.tolist() == [5000]


def test_blank_lines_and_empty_texts_are_skipped_and_counted(path):
    corpus, found = documents(path, '\n{"text": ""}\r\n{"text": "a"}\r\n  \n')
    assert list(found) == [b"a"]
    assert corpus.skipped == 3


def test_a_byte_order_mark_at_the_start_is_not_part_of_the_line(path):
    _, found = documents(path, b'\xef\xbb\xbf{"text": "a"}\n')
    assert list(found) == [b"a"]


def test_equal_texts_fall_in_one_split_whatever_else_their_lines_hold(path):
    path.write_text("".join(json.dumps({"id": i, "text": str(i % 100)}) + "\n" for i in range(200)))
    corpus = open_corpus(str(path))
    for split in ("train", "validation", "test"):
        found = list(corpus.documents(split))
        assert len(found) == 2 * len(set(found))


def test_a_directory_may_mix_lines_and_plain_files(tmp_path, path):
    (tmp_path / "a.txt").write_text("plain")
    _, _ = documents(path, '{"text": "line"}\n')
    corpus = open_corpus(str(tmp_path), fractions=ALL_TRAIN)
    assert list(corpus.documents("train")) == [b"plain", b"line"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "data.source: .*lines.jsonl:2 is not JSON .*every line must be one JSON object"),
        ("[1]\n", "lines.jsonl:1 is a JSON list: every line must be one JSON object"),
        ('{"b": 1, "a": 2}\n', "data.field='text' is missing at .*lines.jsonl:1; the fields there are a, b: name one"),
        ("{}\n", "the fields there are none"),
        ('{"text": 7, "body": ""}\n', "data.field='text' holds a int at .*:1; the fields there are body, text"),
        ('{"text": "\\ud800"}\n', "data.field='text' holds half a surrogate pair at .*:1, character 0"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "lines.jsonl:2 is not UTF-8 at byte 10 of the line"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(path, text, message):
    with pytest.raises(ValueError, match=message):
        documents(path, text)


def test_a_line_that_changed_since_is_an_error(path):
    _, found = documents(path, '{"text": "abc"}\n')
    path.write_text('{"text":  "ab"}\n')
    with pytest.raises(OSError, match=r"lines.jsonl changed since the corpus was opened"):
        found[0]
