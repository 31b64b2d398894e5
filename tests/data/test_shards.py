"""The stream of batches is made of shards, so it is the same however many processes read it."""

import collections
import hashlib
import itertools
import json

import numpy as np
import pytest

from jaxseq.data import ByteTokenizer, PipelineChanged, open_source, train_batches

TOKENIZER = ByteTokenizer()
OPTIONS = {"length": 16, "batch": 8, "seed": 3}


def batch_fingerprint(batch):
    """SHA-256 in hex of a batch's arrays in the order of their names, with dtypes and shapes."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        array = np.ascontiguousarray(batch[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.data)
    return digest.hexdigest()


def random_bytes(sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, np.uint8).tobytes() for size in sizes]


@pytest.fixture(scope="module")
def documents(documents_of):
    return documents_of(random_bytes([1, 5, 30, 200, 80_000, 64, 63, 65, 7]))  # grain shuffles few windows slowly


def processes(documents, count, **options):
    return [
        train_batches(documents, TOKENIZER, **(OPTIONS | options), process_index=p, process_count=count)
        for p in range(count)
    ]


def global_batches(iterators, count):
    """The next batches of all processes, their rows joined, as fingerprints."""
    for _ in range(count):
        parts = [next(iterator) for iterator in iterators]
        yield batch_fingerprint({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def union(iterators):
    """What a checkpoint of all processes holds, after a way through JSON."""
    return json.loads(json.dumps({k: v for iterator in iterators for k, v in iterator.get_state().items()}))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_global_batches_do_not_depend_on_the_number_of_processes(documents, count):
    expected = list(global_batches(processes(documents, 1), 35))  # more than the 32 rows that a shard packs at once
    assert len(set(expected)) == 35
    assert list(global_batches(processes(documents, count), 35)) == expected


@pytest.mark.parametrize(("before", "after"), [(1, 4), (2, 1), (4, 2), (2, 4), (8, 1)])
@pytest.mark.parametrize("position", [0, 31])
def test_what_n_processes_saved_goes_on_in_m_processes(documents, before, after, position):
    saving = processes(documents, before)
    list(global_batches(saving, position))
    state = union(saving)
    expected = list(global_batches(saving, 3))
    going_on = processes(documents, after)
    list(global_batches(going_on, 1))
    for iterator in going_on:
        iterator.set_state(state)
    assert list(global_batches(going_on, 3)) == expected


def test_a_process_saves_its_own_shards(documents):
    states = [set(iterator.get_state()) - {"pipeline"} for iterator in processes(documents, 4)]
    assert states == [{"0", "1"}, {"2", "3"}, {"4", "5"}, {"6", "7"}]


def test_a_state_is_small(documents):
    (iterator,) = processes(documents, 1)
    list(itertools.islice(iterator, 40))
    assert len(json.dumps(iterator.get_state())) < 2000


def test_a_row_comes_from_a_fixed_shard(documents):
    (whole,) = processes(documents, 1, shards=4)
    state = whole.get_state()
    state["2"] |= {"counter": 5, "next_row": 5}
    before = next(whole)["tokens"]
    whole.set_state(state)
    differs = (next(whole)["tokens"] != before).any(axis=1)
    assert differs.tolist() == [False] * 4 + [True] * 2 + [False] * 2


def test_shards_share_an_epoch_without_overlap(documents_of):
    # Windows of a full row each, as many as two packs of all shards: every shard's first pack is a quarter of half.
    long = documents_of(random_bytes([4 * 2 * 128 - 1]))
    batches = itertools.islice(train_batches(long, TOKENIZER, length=4, batch=128, seed=0, shards=4), 2)
    rows = [tuple(row) for batch in batches for row in batch["tokens"].tolist()]
    expected = collections.Counter(
        tuple(long.tokens(TOKENIZER).read(0, 4 * k - 1, 4 * k + 4).tolist()) for k in range(1, 255)
    )
    assert len(rows) == 256
    assert not expected - collections.Counter(rows)


@pytest.mark.parametrize(("batch", "shards"), [(16, 8), (6, 2), (5, 1), (12, 4)])
def test_the_default_is_the_most_of_8_4_2_1_that_divide_the_batch(documents, batch, shards):
    assert train_batches(documents, TOKENIZER, length=16, batch=batch, seed=0).pipeline["shards"] == shards


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 4}, "seed: 3 -> 4"),
        ({"length": 17}, "length: 16 -> 17"),
        ({"shards": 4}, "shards: 8 -> 4"),
        ({"batch": 16}, "batch: 8 -> 16"),
    ],
)
def test_the_state_of_another_pipeline_is_refused_with_what_differs(documents, options, message):
    (saved,), (other,) = processes(documents, 1), processes(documents, 1, **options)
    with pytest.raises(PipelineChanged, match=message):
        other.set_state(saved.get_state())


def test_the_state_of_other_documents_is_refused(documents, documents_of):
    (saved,), (other,) = processes(documents, 1), processes(documents_of([b"other"] * 50), 1)
    with pytest.raises(PipelineChanged, match="documents: '"):
        other.set_state(saved.get_state())


def test_a_refused_state_moves_nothing(documents):
    (saved,), (other,), (expected,) = processes(documents, 1), processes(documents, 1, seed=4), processes(
        documents, 1, seed=4
    )  # fmt: skip
    next(saved)
    with pytest.raises(PipelineChanged):
        other.set_state(saved.get_state())
    assert batch_fingerprint(next(other)) == batch_fingerprint(next(expected))


def test_a_state_without_a_shard_of_this_process_is_refused(documents):
    first, second = processes(documents, 2)
    with pytest.raises(ValueError, match=r"state must hold shards \[4, 5, 6, 7\], got \[0, 1, 2, 3\]"):
        second.set_state(first.get_state())


def test_a_state_from_before_shards_is_refused(documents):
    (iterator,) = processes(documents, 1)
    with pytest.raises(PipelineChanged, match=r"saved by a version without data.shards"):
        iterator.set_state({"parent": {}, "next_row": 0, "counter": 0})


def test_the_fingerprint_of_a_batch_sees_values_and_dtypes():
    batch = {"tokens": np.arange(6, dtype=np.int32).reshape(2, 3)}
    found = {batch_fingerprint(b) for b in (
        batch, {"tokens": batch["tokens"] + 1}, {"tokens": batch["tokens"].reshape(3, 2)}, {"other": batch["tokens"]},
        {"tokens": batch["tokens"].astype(np.float32)},
    )}  # fmt: skip
    assert len(found) == 5
    assert batch_fingerprint({"tokens": batch["tokens"].copy()}) in found


@pytest.mark.parametrize("weights", [(3.0, 1.0), (0.2, 0.8)])
def test_targets_of_a_mixture_are_in_proportion_to_its_weights(tmp_path, weights):
    for name, letter, size in (("long", b"a", 900), ("short", b"b", 20)):  # short windows need more draws
        (tmp_path / name).mkdir()
        for i in range(300):
            (tmp_path / name / str(i)).write_bytes(letter * (size + i % 7) + str(i).encode())
    source = (str(tmp_path / "long"), str(tmp_path / "short"))
    documents = open_source(source, weights=weights, fractions=(1.0, 0.0, 0.0)).documents("train")
    counts = collections.Counter()
    for batch in itertools.islice(train_batches(documents, TOKENIZER, length=64, batch=8, seed=0), 60):
        counts.update(batch["tokens"][:, 1:][batch["weight"] == 1].tolist())
    share = counts[ord("a")] / (counts[ord("a")] + counts[ord("b")])
    assert abs(share - weights[0] / sum(weights)) < 0.05
