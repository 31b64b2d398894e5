"""Training batches: every byte a target once per epoch, no leak across a join, the same again after a restore."""

import collections
import itertools
import json

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseq.data import ByteTokenizer, open_corpus, train_batches
from jaxseq.data.pipeline import _PACKED_ROWS
from jaxseq.data.windows import Windows

TOKENIZER = ByteTokenizer()
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def random_bytes(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, size, np.uint8).tobytes() for size in sizes]


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def segments(batch):
    """The windows in a batch, as tuples, read from the masks alone."""
    for tokens, reset, weight in zip(batch["tokens"], batch["reset"], batch["weight"], strict=True):
        starts = np.flatnonzero(reset)
        for start, stop in itertools.pairwise([*starts, len(weight)]):
            count = int(weight[start:stop].sum())
            if count:
                assert weight[start : start + count].all()
                yield tuple(tokens[start : start + count + 1].tolist())


def windows_of(documents, length):
    windows = Windows(documents.tokens(TOKENIZER), TOKENIZER.bos, length)
    return collections.Counter(tuple(windows[k]["tokens"].tolist()) for k in range(len(windows)))


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key])


@given(SIZES, st.integers(1, 12))
def test_windows_join_to_the_documents_with_one_token_of_overlap(documents_of, sizes, length):
    contents = random_bytes(sizes)
    windows = Windows(documents_of(contents).tokens(TOKENIZER), TOKENIZER.bos, length)
    tokens = [windows[k]["tokens"] for k in range(len(windows))]
    assert all(2 <= len(window) <= length + 1 for window in tokens)
    targets = np.concatenate([window[1:] for window in tokens])
    assert targets.tolist() == [i for content in contents for i in [*content, TOKENIZER.bos]]
    inputs = np.concatenate([window[:-1] for window in tokens])
    assert inputs.tolist() == [i for content in contents for i in TOKENIZER.encode(content)]


@settings(max_examples=8, deadline=None)
@given(SIZES, st.integers(1, 12), st.integers(0, 3))
def test_every_byte_and_end_is_a_target_exactly_once_per_epoch(documents_of, sizes, length, seed):
    documents = documents_of(random_bytes([*sizes, 500]))  # grain shuffles fewer than about 40 windows very slowly
    expected = windows_of(documents, length)
    # A batch of as many rows as are packed at once holds a run of the shuffled order without gaps.
    batches = take(train_batches(documents, TOKENIZER, length=length, batch=_PACKED_ROWS, seed=seed, shards=1), 2)
    found = collections.Counter(window for batch in batches for window in segments(batch))
    epochs, rest = divmod(found.total(), expected.total())
    for window, count in expected.items():
        assert epochs * count <= found[window] <= (epochs + (rest > 0)) * count
    assert found.keys() <= expected.keys()


def test_shapes_and_dtypes(documents_of):
    batch = next(train_batches(documents_of(random_bytes([500])), TOKENIZER, length=8, batch=4, seed=0))
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "tokens": ((4, 9), "int32"),
        "reset": ((4, 8), "bool"),
        "weight": ((4, 8), "float32"),
    }


def test_a_join_resets_the_state_and_is_no_target(documents_of):
    batch = next(train_batches(documents_of([b"ab"]), TOKENIZER, length=7, batch=1, seed=0))
    assert batch["tokens"].tolist() == [[256, 97, 98, 256, 256, 97, 98, 256]]
    assert batch["reset"].tolist() == [[True, False, False, False, True, False, False]]
    assert batch["weight"].tolist() == [[1, 1, 1, 0, 1, 1, 1]]


def test_padding_is_boundary_tokens_of_weight_zero_after_one_reset(documents_of):
    batch = next(train_batches(documents_of([b"abc"]), TOKENIZER, length=6, batch=1, seed=0))
    assert batch["tokens"].tolist() == [[256, 97, 98, 99, 256, 256, 256]]
    assert batch["reset"].tolist() == [[True, False, False, False, False, True]]
    assert batch["weight"].tolist() == [[1, 1, 1, 1, 0, 0]]


def test_packing_leaves_less_than_one_percent_of_stdlib_rows_empty():
    documents = open_corpus("stdlib").documents("train")
    batches = take(train_batches(documents, TOKENIZER, length=256, batch=_PACKED_ROWS, seed=0), 8)
    assert np.mean([batch["weight"].mean() for batch in batches]) > 0.99


@pytest.fixture(scope="module")
def mixed(documents_of):
    return documents_of(random_bytes([1, 5, 30, 200, 20_000, 64, 63, 65, 7]))


@pytest.mark.parametrize("position", [0, 1, 5, 60])
def test_batches_after_set_state_are_bit_identical(mixed, position):
    def make():
        return train_batches(mixed, TOKENIZER, length=16, batch=6, seed=3)

    iterator, other = make(), make()
    take(iterator, position)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 50)
    take(other, 7)
    other.set_state(state)
    for left, right in zip(expected, take(other, 50), strict=True):
        assert_equal(left, right)


def test_an_orbax_checkpoint_restores_the_iterator(mixed, tmp_path):
    iterator = train_batches(mixed, TOKENIZER, length=16, batch=6, seed=3)
    take(iterator, 10)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
        manager.wait_until_finished()
        expected = next(iterator)
        other = train_batches(mixed, TOKENIZER, length=16, batch=6, seed=3)
        manager.restore(0, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(other)))
    assert_equal(next(other), expected)


def test_the_same_seed_gives_the_same_batches(mixed):
    left, right = (train_batches(mixed, TOKENIZER, length=16, batch=4, seed=5) for _ in range(2))
    for a, b in zip(take(left, 20), take(right, 20), strict=True):
        assert_equal(a, b)


def runs(documents, seed, count):
    """The first `count` runs of 128 windows in shuffled order, each as a set; an epoch of `long` has two."""
    batches = train_batches(documents, TOKENIZER, length=4, batch=_PACKED_ROWS, seed=seed, shards=1)
    return [{tuple(row) for row in batch["tokens"].tolist()} for batch in take(batches, count)]


@pytest.fixture(scope="module")
def long(documents_of):
    return documents_of(random_bytes([4 * 2 * _PACKED_ROWS - 1]))


def test_windows_are_shuffled_over_the_corpus(long):
    windows = Windows(long.tokens(TOKENIZER), TOKENIZER.bos, 4)
    assert runs(long, 0, 1) != [{tuple(windows[k]["tokens"].tolist()) for k in range(_PACKED_ROWS)}]


def test_every_epoch_has_its_own_order(long):
    first = runs(long, 0, 4)
    assert first[0] | first[1] == first[2] | first[3]
    assert first[0] != first[2]


def test_neighbouring_seeds_do_not_share_epochs(long):
    assert runs(long, 0, 4)[2] != runs(long, 1, 1)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 3}, "data.shards must divide data.batch = 4 and be a multiple of the 1 processes, got 3"),
        ({"shards": 0}, "data.shards must divide data.batch = 4 and be a multiple of the 1 processes, got 0"),
        ({"batch": 5, "process_count": 2}, "data.batch = 5 and be a multiple of the 2 processes, got 1"),
        ({"process_index": 2, "process_count": 2}, "process_index must be from 0 to process_count - 1, got 2 of 2"),
        ({"length": 0}, "length and batch must be at least 1, got 0 and 4"),
        ({"batch": 0}, "length and batch must be at least 1, got 8 and 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_wrong_argument_is_named(mixed, options, message):
    with pytest.raises(ValueError, match=message):
        train_batches(mixed, TOKENIZER, **{"length": 8, "batch": 4, "seed": 0} | options)


def test_an_empty_split_is_refused(tmp_path):
    (tmp_path / "a").write_text("text")
    documents = open_corpus(str(tmp_path), fractions=(1, 0, 0)).documents("test")
    with pytest.raises(ValueError, match="documents must hold at least one document, got none"):
        train_batches(documents, TOKENIZER, length=8, batch=4, seed=0)
