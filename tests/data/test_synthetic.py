"""Tasks that are made up as they are read."""

from itertools import combinations, permutations

import numpy as np
import pytest

from jaxseq.data import ByteTokenizer, manifest, open_corpus, open_source, train_batches
from jaxseq.data.corpus import SPLITS


@pytest.mark.parametrize("split", SPLITS)
def test_the_last_byte_of_a_document_is_the_parity_of_its_ones(split):
    documents = open_source("parity:20").documents(split)
    for i in range(0, len(documents), 50):
        bits, answer = documents[i].split(b"=")
        assert set(bits) <= set(b"01")
        assert int(answer) == bits.count(b"1") % 2
        assert len(documents[i]) == documents.sizes[i]


def test_evaluation_is_on_the_full_length_and_training_on_all_lengths_up_to_it():
    train, validation, test = (set(open_source("parity:20").documents(split).sizes.tolist()) for split in SPLITS)
    assert train == set(range(3, 23))
    assert validation == test == {22}


def test_splits_and_documents_differ():
    first = [[open_source("parity:100").documents(split)[i] for i in range(3)] for split in ("validation", "test")]
    assert len({text for texts in first for text in texts}) == 6


def test_a_part_of_a_document_is_that_part():
    documents = open_source("parity:20").documents("test")
    assert documents.read(3, 5, 9) == documents[3][5:9]


def test_equal_sources_have_equal_documents():
    first, second = (open_source("parity:50").documents("train") for _ in range(2))
    assert [first[i] for i in range(100)] == [second[i] for i in range(100)]


def test_a_row_holds_whole_documents():
    documents = open_source("parity:20").documents("train")
    batch = next(train_batches(documents, ByteTokenizer(), length=23, batch=4, seed=0))
    for tokens, reset in zip(batch["tokens"], batch["reset"], strict=True):
        assert (tokens[:-1][reset] == ByteTokenizer.bos).all()
    assert np.count_nonzero(batch["tokens"] == ord("=")) > 4


def test_other_sources_are_files(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(map(str, range(10**4, 10**4 + 500))))
    options = {"encoding": "utf-8", "piece_bytes": 20}
    found, expected = (f(str(tmp_path), **options) for f in (open_source, open_corpus))
    assert manifest(found) == manifest(expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("partiy:100", "data.source='partiy:100' must name one of the tasks a5, a5_cycles, parity"),
        ("parity:0", "data.source='parity:0' must have a length of at least 1"),
    ],
)
def test_a_task_that_there_is_not_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        open_source(source)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'all'"):
        open_source("parity:3").documents("all")


EVEN = [p for p in permutations(range(5)) if sum(a > b for a, b in combinations(p, 2)) % 2 == 0]
LETTERS = {
    "a5": {128 + i: p for i, p in enumerate(EVEN)},
    "a5_cycles": dict(zip(b"aAbB", [(1, 2, 3, 4, 0), (4, 0, 1, 2, 3), (1, 2, 0, 3, 4), (2, 0, 1, 3, 4)], strict=True)),
}


@pytest.mark.parametrize("task", LETTERS)
def test_the_last_byte_of_a_word_is_the_product_of_its_even_permutations(task):
    documents = open_source(f"{task}:12").documents("train")
    for i in range(40):
        word, answer = documents[i].split(b"=")
        places = list(range(5))
        for letter in word:
            places = [LETTERS[task][letter][x] for x in places]
        assert answer == bytes([128 + EVEN.index(tuple(places))])


def test_words_of_cycles_reach_all_sixty_permutations():
    documents = open_source("a5_cycles:20").documents("test")
    assert {documents[i][-1] for i in range(len(documents))} == set(range(128, 188))
