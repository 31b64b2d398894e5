"""Token files, prepared folders and mixtures: other ways to the same documents."""

import json
import shutil

import numpy as np
import pytest

from jaxseq.config import from_json, override, to_json
from jaxseq.data import ByteTokenizer, manifest, open_corpus, open_source, stream_batches, train_batches
from jaxseq.data.prepare import prepare
from jaxseq.experiment import Experiment

ALL_TRAIN = (1.0, 0.0, 0.0)
TEXTS = [f"def function_{i}():\n    return 'café' * {i}\n".encode() * (1 + i % 5) for i in range(200)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for i, text in enumerate(TEXTS):
        (folder / f"{i:03}.py").write_bytes(text)
    return open_corpus(str(folder))


def ids_of(bpe, *, before):
    """The texts as one row of ids, `bos` before each or after each."""
    rows = [bpe.encode(text) if before else np.roll(bpe.encode(text), -1) for text in TEXTS]
    return np.concatenate(rows)


def header(magic, version, count):
    return np.array([magic, version, count] + [0] * 253, "<i4").tobytes()


def write_bin(path, ids, kind):
    if kind == "nanogpt":
        path.write_bytes(ids.astype("<u2").tobytes())
    elif kind == "llm.c":
        path.write_bytes(header(20240520, 1, len(ids)) + ids.astype("<u2").tobytes())
    else:
        path.write_bytes(header(20240801, 7, len(ids)) + ids.astype("<u4").tobytes())


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", ["nanogpt", "llm.c", "llm.c, 32 bits"])
def test_token_files_give_the_batches_of_the_text(corpus, bpe, tmp_path, kind, before):
    write_bin(tmp_path / "a.bin", ids_of(bpe, before=before), kind)
    stored = open_source(str(tmp_path), tokenizer=bpe)
    options = {"length": 16, "batch": 2, "seed": 0, "shards": 1}
    left, right = (next(train_batches(c.documents("train"), bpe, **options)) for c in (corpus, stored))
    np.testing.assert_array_equal(left["tokens"], right["tokens"])


def test_token_files_have_the_bytes_of_the_text_in_the_same_splits(corpus, bpe, tmp_path):
    write_bin(tmp_path / "a.bin", ids_of(bpe, before=True), "llm.c")
    assert manifest(open_source(str(tmp_path), tokenizer=bpe))["splits"] == manifest(corpus)["splits"]


def test_a_long_document_of_a_token_file_is_cut(tmp_path):
    write_bin(tmp_path / "a.bin", np.arange(100) % 50, "nanogpt")
    found = open_source(str(tmp_path), piece_bytes=30, fractions=ALL_TRAIN).documents("train")
    assert found.sizes.tolist() == [30, 30, 30, 10]
    assert b"".join(found) == bytes(i % 50 for i in range(100))


@pytest.mark.parametrize(("content", "offset", "wanted"), [
    (b"\x00\x01\x02", 3, "2 bytes for 1 ids"),
    (header(20240520, 1, 10) + bytes(18), 1042, "1044 bytes for 10 ids"),
    (header(20240520, 1, 10) + bytes(22), 1046, "1044 bytes for 10 ids"),
])  # fmt: skip
def test_a_token_file_of_a_wrong_length_names_where_it_ends(tmp_path, content, offset, wanted):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/a.bin must have {wanted}, it ends at byte offset {offset}"):
        open_source(str(tmp_path))


def test_an_id_that_the_tokenizer_does_not_have_is_named_with_its_offset(tmp_path):
    write_bin(tmp_path / "a.bin", np.array([1, 2, 300, 4]), "llm.c")
    with pytest.raises(ValueError, match=r"a.bin has the id 300 at byte offset 1028, but bytes has 257 ids"):
        open_source(str(tmp_path))


def test_token_files_and_text_are_not_mixed(tmp_path):
    write_bin(tmp_path / "a.bin", np.arange(9), "nanogpt")
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(ValueError, match=r"has .bin files, which are token ids, and others: name them apart"):
        open_source(str(tmp_path))


@pytest.fixture(scope="module")
def prepared(corpus, bpe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "tokens"
    prepare(corpus, bpe, folder, shard_bytes=4000)
    return folder


def test_a_prepared_folder_gives_the_batches_of_the_text(corpus, bpe, prepared):
    stored = open_source(str(prepared), tokenizer=bpe)
    for left, right in zip(
        *(list(stream_batches(c.documents("validation"), bpe, length=16, batch=2)) for c in (corpus, stored)),
        strict=True,
    ):
        np.testing.assert_array_equal(left["tokens"], right["tokens"])
    options = {"length": 16, "batch": 8, "seed": 0}
    iterators = [train_batches(c.documents("train"), bpe, **options) for c in (corpus, stored)]
    for _ in range(3):
        left, right = (next(iterator) for iterator in iterators)
        np.testing.assert_array_equal(left["tokens"], right["tokens"])
        np.testing.assert_array_equal(left["weight"], right["weight"])


def test_the_manifest_of_a_prepared_folder_counts_tokens_and_bytes(corpus, bpe, prepared):
    found = json.loads((prepared / "manifest.json").read_text())
    assert len(found["shards"]) > 3
    assert found["bytes"] == sum(map(len, TEXTS))
    assert found["tokens"] == sum(len(bpe.encode(text)) - 1 for text in TEXTS)
    assert found["source"] == manifest(corpus)
    assert manifest(open_source(str(prepared), tokenizer=bpe))["splits"] == manifest(corpus)["splits"]


def test_the_record_of_a_prepared_folder_is_what_its_documents_are(bpe, prepared):
    stored = open_source(str(prepared), tokenizer=bpe)
    assert super(type(stored), stored).summary("train") == stored.summary("train")


def test_the_tokenizer_of_a_prepared_folder_is_in_it(bpe, prepared):
    assert (prepared / "tokenizer.json").read_text() == bpe.json
    with pytest.raises(ValueError, match=rf"set data.tokenizer={prepared}/tokenizer.json"):
        open_source(str(prepared))


def shards_of(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.glob("0*"))}


def test_a_second_call_does_only_what_is_missing_or_damaged(corpus, bpe, prepared, tmp_path):
    folder = tmp_path / "tokens"
    shutil.copytree(prepared, folder)
    before = shards_of(folder)
    (folder / "00001.json").unlink()
    (folder / "00001.array_record").write_bytes(b"half")
    broken = bytearray((folder / "00002.array_record").read_bytes())
    broken[-1] ^= 1
    (folder / "00002.array_record").write_bytes(broken)
    (folder / "00003.array_record.tmp77").write_bytes(b"left over")
    calls = []
    prepare(corpus, bpe, folder, shard_bytes=4000, show=lambda *call: calls.append(call))
    after = shards_of(folder)
    assert {name: content for name, (_, content) in after.items()} == {n: c for n, (_, c) in before.items()}
    made = {name[:5] for name in after if after[name][0] != before[name][0]}
    assert made == {"00001", "00002"}
    total = len(before) // 3
    assert calls == [(total - 2, total), (total - 1, total), (total, total)]


def test_a_folder_that_was_not_finished_is_no_source(prepared, bpe, tmp_path):
    shutil.copytree(prepared, tmp_path / "tokens")
    (tmp_path / "tokens" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="is not UTF-8"):
        open_source(str(tmp_path / "tokens"), tokenizer=bpe)


def test_a_folder_begun_with_others_is_refused(corpus, bpe, prepared):
    with pytest.raises(ValueError, match=r"was begun with others \(shard_bytes: 4000 -> 5000\)"):
        prepare(corpus, bpe, prepared, shard_bytes=5000)
    with pytest.raises(ValueError, match=r"was begun with others \(tokenizer: 'bpe-[0-9a-f]+' -> 'bytes'\)"):
        prepare(corpus, ByteTokenizer(), prepared, shard_bytes=4000)


def test_a_folder_of_other_files_is_refused(corpus, bpe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="has files that are not of prepared data"):
        prepare(corpus, bpe, tmp_path)


def test_a_shard_cut_short_is_named(bpe, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "tokens")
    path = tmp_path / "tokens" / "00001.array_record"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{path} must have \d+ bytes, it ends at byte offset 100"):
        open_source(str(tmp_path / "tokens"), tokenizer=bpe)


def test_a_mixture_has_the_documents_of_its_sources_in_order(corpus, tmp_path):
    (tmp_path / "other.txt").write_text("".join(f"line {i}\n" for i in range(3000)))
    other = open_corpus(str(tmp_path), piece_bytes=100)
    both = open_source((corpus.source, str(tmp_path)), piece_bytes=100)
    for split in ("train", "validation", "test"):
        expected = [*open_corpus(corpus.source, piece_bytes=100).documents(split), *other.documents(split)]
        assert list(both.documents(split)) == expected


def test_the_tokens_of_a_mixture_are_those_of_its_documents(corpus, bpe, tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"another text {i} " * (1 + i % 4))
    sources = (corpus.source, str(tmp_path), corpus.source)
    tokens = open_source(sources, fractions=ALL_TRAIN).documents("train").tokens(bpe)
    expected = [d for each in sources for d in open_corpus(each, fractions=ALL_TRAIN).documents("train")]
    assert len(tokens.counts) == len(expected) == 2 * len(TEXTS) + 30
    for i, document in enumerate(expected):
        np.testing.assert_array_equal(tokens.read(i, 0, int(tokens.counts[i])), bpe.encode(document)[1:])


def test_the_manifest_of_a_mixture_has_its_parts_and_survives_json(corpus):
    some = f"{corpus.source}/0*.py"
    record = manifest(open_source((corpus.source, some), weights=(2.0, 1.0)))
    assert json.loads(json.dumps(record)) == record
    assert [(part["source"], part["weight"]) for part in record["parts"]] == [(corpus.source, 2.0), (some, 1.0)]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (1.0, 0.0), (1.0, float("inf"))])
def test_weights_are_one_positive_number_for_each_source(weights):
    with pytest.raises(ValueError, match=r"data.weights must be 2 positive numbers, one for each source, got"):
        open_source(("parity:5", "a5:5"), weights=weights)


def test_a_mixture_is_set_from_text_and_survives_json():
    config = override(Experiment(), ["data.source=('parity:5', 'text/*.jsonl')", "data.weights=0.7,0.3"])
    assert (config.data.source, config.data.weights) == (("parity:5", "text/*.jsonl"), (0.7, 0.3))
    assert from_json(Experiment, to_json(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data.shards=3", "data.shards must divide data.batch = 16, got 3"),
        ("data.shards=0", "data.shards must divide data.batch = 16, got 0"),
        ("data.weights=1.0,2.0", r"data.weights must be one for each of 1 sources, got \(1.0, 2.0\)"),
    ],
)
def test_a_config_that_no_data_can_have_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        override(Experiment(), [text])
