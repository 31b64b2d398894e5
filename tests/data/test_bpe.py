"""Byte-level BPE: no byte is lost or counted twice, whatever the text; and the tokens of documents."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import (
    ByteTokenizer,
    TextStream,
    open_corpus,
    open_tokenizer,
    save_tokenizer,
    stream_batches,
    tokens_per_byte,
    train_batches,
)
from jaxseq.data.bpe import BPETokenizer, train_bpe

TEXT = st.one_of(
    st.binary(), st.text().map(str.encode), st.sampled_from([b"<bos>", b"a<bos>b\xff", b"\xe2\x82\xac\xe2"])
)


@given(TEXT)
def test_decode_undoes_encode_of_any_bytes(bpe, document):
    assert bpe.decode(bpe.encode(document)) == document


@given(st.lists(TEXT.filter(len), min_size=1, max_size=4))
def test_many_at_once_are_the_same_as_one_by_one(bpe, documents):
    for document, ids in zip(documents, bpe.encode_all(documents), strict=True):
        np.testing.assert_array_equal(ids, bpe.encode(document)[1:])


@given(TEXT)
def test_the_bytes_of_the_tokens_sum_to_those_of_the_document(bpe, document):
    assert bpe.token_bytes[bpe.encode(document)].sum() == len(document)


def test_a_document_begins_with_the_boundary_and_has_it_nowhere_else(bpe):
    ids = bpe.encode(b"text with <bos> in it <bos>")
    assert ids.dtype == np.int32
    assert np.flatnonzero(ids == bpe.bos).tolist() == [0]


def test_frequent_text_takes_fewer_tokens_than_bytes(bpe):
    document = b"def encode(self, document): return self.tokenizer.encode(document)"
    assert len(bpe.encode(document)) < len(document) / 3


def test_training_is_deterministic(bpe):
    texts = [b"some words and some other words, some more"] * 5
    assert train_bpe(texts, 300).json == train_bpe(texts, 300).json


def test_a_vocabulary_has_room_for_the_bytes_and_the_boundary():
    with pytest.raises(ValueError, match=r"vocab must be at least 257 \(256 bytes and <bos>\), got 256"):
        train_bpe([b"text"], 256)


@given(st.lists(st.integers(0, 299)), st.integers(1, 3))
def test_streamed_text_equals_text_decoded_at_once(bpe, ids, step):
    stream = TextStream(bpe)
    pieces = [stream.push(ids[i : i + step]) for i in range(0, len(ids), step)]
    assert "".join([*pieces, stream.end()]) == bpe.decode(ids).decode("utf-8", "replace")


def test_a_character_in_several_tokens_comes_out_with_the_last():
    tokenizer = train_bpe([b"abc"], 257)
    stream = TextStream(tokenizer)
    assert [stream.push([i]) for i in tokenizer.encode("é!".encode())] == ["", "", "é", "!"]


def test_decode_refuses_an_id_outside_the_vocabulary(bpe):
    with pytest.raises(ValueError, match=f"ids must be from 0 to {bpe.vocab - 1}, got {bpe.vocab}"):
        bpe.decode([bpe.vocab])


def edited(bpe, change):
    content = json.loads(bpe.json)
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["added_tokens"][0].update(content="<x>") or c["model"]["vocab"].pop("<bos>"), "must have one of"),
        (lambda c: c.update(normalizer={"type": "NFC"}), "keeps text as it is: .* comes back changed"),
        (lambda c: c["pre_tokenizer"].update(add_prefix_space=True), "comes back changed"),
        (lambda c: c.pop("model"), "is not a file of the library tokenizers"),
    ],
)
def test_a_file_that_would_lose_text_is_refused(bpe, change, message):
    with pytest.raises(ValueError, match=f"data.tokenizer.*{message}"):
        BPETokenizer(edited(bpe, change))


def test_a_tokenizer_that_is_not_byte_level_is_refused(bpe):
    with pytest.raises(ValueError, match="must be byte-level, its token '中' is not made of bytes"):
        BPETokenizer(edited(bpe, lambda c: c["model"]["vocab"].update({"中": 512})))


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ValueError, match=f"data.tokenizer: {tmp_path}/t.json is not JSON"):
        open_tokenizer(str(tmp_path / "t.json"))


def test_a_missing_file_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"data.tokenizer='no.json' does not exist: give 'bytes' or a JSON file"
    ):
        open_tokenizer("no.json")


def test_a_run_reads_its_own_copy(bpe, tmp_path):
    (tmp_path / "config.json").touch()
    save_tokenizer(bpe, tmp_path)
    assert open_tokenizer("gone.json", tmp_path).name == bpe.name


def test_bytes_leave_no_file(tmp_path):
    save_tokenizer(ByteTokenizer(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(40):
        text = f"def function_{i}(self):\n    return 'café 中文' * {i}\n" * (1 + i % 9)
        (folder / f"{i:02}.py").write_bytes(text.encode() + b"\xff" * (i % 2))
    return open_corpus(str(folder), encoding="bytes", fractions=(1.0, 0.0, 0.0))


def test_the_tokens_of_a_document_are_those_of_its_text(corpus, bpe):
    documents = corpus.documents("train")
    tokens = documents.tokens(bpe)
    for i, document in enumerate(documents):
        np.testing.assert_array_equal(tokens.read(i, 0, int(tokens.counts[i])), bpe.encode(document)[1:])


def test_documents_are_tokenised_once(corpus, bpe, monkeypatch):
    documents = corpus.documents("train")
    expected = documents.tokens(bpe).read(3, 0, 2)
    monkeypatch.setattr(BPETokenizer, "encode_all", None)
    np.testing.assert_array_equal(documents.tokens(bpe).read(3, 0, 2), expected)


def test_another_tokenizer_or_corpus_is_another_entry_of_the_cache(corpus, bpe, documents_of):
    other = train_bpe([b"nothing in common"], 260)
    documents = corpus.documents("train")
    counts = [d.tokens(t).counts.tolist() for d in (documents, documents_of([b"def"])) for t in (bpe, other)]
    assert len({tuple(c) for c in counts}) == 4


def test_the_targets_of_an_evaluation_have_the_bytes_of_the_documents(corpus, bpe):
    documents = corpus.documents("train")
    batches = stream_batches(documents, bpe, length=16, batch=3)
    found = sum((bpe.token_bytes[b["tokens"][:, 1:]] * b["weight"]).sum() for b in batches)
    assert found == documents.sizes.sum()


def test_the_targets_of_an_epoch_have_the_bytes_of_the_documents(documents_of, bpe):
    text = b"def encode(self): return 12345 " * 120
    size = next(n for n in range(2000, len(text)) if len(bpe.encode(text[:n])) == 8 * 128)
    documents = documents_of([text[:size]])  # 128 windows without padding, which are packed at once
    batch = next(train_batches(documents, bpe, length=8, batch=128, seed=0, shards=1))
    assert (bpe.token_bytes[batch["tokens"][:, 1:]] * batch["weight"]).sum() == documents.sizes.sum()


def test_tokens_per_byte_counts_ends_of_documents(corpus, bpe):
    documents = corpus.documents("train")
    tokens = sum(len(bpe.encode(document)) for document in documents)
    assert tokens_per_byte(documents, bpe) == pytest.approx(tokens / documents.sizes.sum())
