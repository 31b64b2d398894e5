"""Evaluation batches: the whole split, in order, each token a target once."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import ByteTokenizer, stream_batches

TOKENIZER = ByteTokenizer()
CASE = (st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 7))


def stream_of(contents):
    return np.concatenate([TOKENIZER.encode(content) for content in contents])


def rows_of(batches):
    """Each row's targets of weight 1, and the inputs they are predicted from, joined over all batches."""
    tokens, weight = (np.concatenate([batch[key] for batch in batches], axis=1) for key in ("targets", "weight"))
    inputs = np.concatenate([batch["tokens"][:, :-1] for batch in batches], axis=1)
    return [(i[w == 1], t[w == 1]) for i, t, w in zip(inputs, tokens, weight, strict=True)]


@given(*CASE)
def test_every_token_but_the_first_is_a_target_once_and_in_order(documents_of, contents, length, batch):
    batches = [b | {"targets": b["tokens"][:, 1:]} for b in stream_batches(
        documents_of(contents), TOKENIZER, length=length, batch=batch
    )]  # fmt: skip
    inputs, targets = (np.concatenate(parts) for parts in zip(*rows_of(batches), strict=True))
    stream = stream_of(contents)
    np.testing.assert_array_equal(targets, stream[1:])
    np.testing.assert_array_equal(inputs, stream[:-1])


@given(*CASE)
def test_the_weights_sum_to_the_tokens_less_one(documents_of, contents, length, batch):
    batches = stream_batches(documents_of(contents), TOKENIZER, length=length, batch=batch)
    assert sum(b["weight"].sum() for b in batches) == batches.targets == len(stream_of(contents)) - 1


@given(*CASE)
def test_a_row_goes_on_where_it_stopped_in_the_batch_before(documents_of, contents, length, batch):
    for before, after in itertools.pairwise(
        stream_batches(documents_of(contents), TOKENIZER, length=length, batch=batch)
    ):
        goes_on = after["weight"][:, 0] == 1
        assert before["weight"][goes_on].all()
        np.testing.assert_array_equal(before["tokens"][goes_on, -1], after["tokens"][goes_on, 0])


@given(*CASE)
def test_reset_is_true_exactly_where_the_input_is_the_boundary(documents_of, contents, length, batch):
    for b in stream_batches(documents_of(contents), TOKENIZER, length=length, batch=batch):
        np.testing.assert_array_equal(b["reset"], b["tokens"][:, :-1] == 256)


@given(*CASE)
def test_len_is_the_number_of_batches_and_iterating_again_starts_again(documents_of, contents, length, batch):
    batches = stream_batches(documents_of(contents), TOKENIZER, length=length, batch=batch)
    first, second = list(batches), list(batches)
    assert len(first) == len(batches)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a["tokens"], b["tokens"])


def test_rows_are_of_equal_length_within_one_token(documents_of):
    batches = list(stream_batches(documents_of([b"x" * 10]), TOKENIZER, length=4, batch=4))
    assert [b["weight"].sum(axis=1).tolist() for b in batches] == [[2, 3, 2, 3]]


def test_padding_is_boundary_tokens_of_weight_zero(documents_of):
    (batch,) = stream_batches(documents_of([b"abc"]), TOKENIZER, length=5, batch=1)
    assert batch["tokens"].tolist() == [[256, 97, 98, 99, 256, 256]]
    assert batch["weight"].tolist() == [[1, 1, 1, 0, 0]]


def test_shapes_and_dtypes(documents_of):
    (batch,) = stream_batches(documents_of([b"abc"]), TOKENIZER, length=2, batch=3)
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "tokens": ((3, 3), "int32"),
        "reset": ((3, 2), "bool"),
        "weight": ((3, 2), "float32"),
    }


def test_a_batch_reads_the_documents_it_shows_and_no_others(documents_of):
    documents = documents_of([b"0123456789"] * 100)
    read = []
    original = documents.read
    documents.read = lambda i, *args: read.append(i) or original(i, *args)
    next(iter(stream_batches(documents, TOKENIZER, length=4, batch=2)))
    assert read == [0, 49, 50]  # row 1 starts with the last token of document 49


@pytest.mark.parametrize(("length", "batch"), [(0, 1), (1, 0)])
def test_a_size_below_one_is_refused(documents_of, length, batch):
    with pytest.raises(ValueError, match=f"length and batch must be at least 1, got {length} and {batch}"):
        stream_batches(documents_of([b"abc"]), TOKENIZER, length=length, batch=batch)
