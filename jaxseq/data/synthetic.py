"""Tasks whose documents are made up as they are read: no files, the same on every machine.

A document is a problem and, as its last byte, the answer, so that a language model trained on it learns the task. Those
of the training split have all lengths up to that of the task, short ones often: a curriculum. Those of the other two
splits have the full length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from jaxseq.data.corpus import SPLITS, Corpus, Documents
from jaxseq.data.index import Index

COUNTS = {"validation": 500, "test": 2_000}


def parity(rng: np.random.Generator, length: int) -> bytes:
    """So many random bits, "=", and the parity of the number of ones: b"0110=0"."""
    bits = rng.integers(0, 2, length, np.uint8)
    return (bits + ord("0")).tobytes() + b"=%d" % (int(bits.sum()) % 2)


def a5(rng: np.random.Generator, length: int) -> bytes:
    """So many random even permutations of five things, as letters from byte 128 on, "=", and their product: the word
    problem of a group that is not solvable, which needs a state that does not commute (Merrill et al. 2024, arXiv
    2404.08819).
    """
    word = rng.integers(0, 60, length).tolist()
    return bytes(128 + g for g in word) + b"=" + _product(word)


def a5_cycles(rng: np.random.Generator, length: int) -> bytes:
    """The same for words of a (0 -> 1 -> 2 -> 3 -> 4 -> 0), b (0 -> 1 -> 2 -> 0) and their inverses A and B, of which
    all sixty are products: b"abA=" and the byte of a b A. Four transitions between states are to be learned, not 60.
    """
    letters = rng.integers(0, 4, length).tolist()
    return bytes(b"aAbB"[i] for i in letters) + b"=" + _product([CYCLES[i] for i in letters])


def _product(word: list[int]) -> bytes:
    """The byte of the product, the first permutation acting first."""
    return bytes([128 + reduce(lambda g, h: int(A5[h, g]), word, 0)])


def _even(p: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in combinations(p, 2)) % 2 == 0


EVEN = [p for p in permutations(range(5)) if _even(p)]  # in lexicographic order: the first is the identity
INDEX = {p: i for i, p in enumerate(EVEN)}
A5 = np.array([[INDEX[tuple(g[x] for x in h)] for h in EVEN] for g in EVEN])  # (60, 60): of x -> g(h(x))
CYCLES = [INDEX[p] for p in ((1, 2, 3, 4, 0), (4, 0, 1, 2, 3), (1, 2, 0, 3, 4), (2, 0, 1, 3, 4))]


class Task(NamedTuple):
    """A document of length + 2 bytes from random numbers and a length, and how many there are to train on."""

    make: Callable[[np.random.Generator, int], bytes]
    count: int


TASKS = {"a5": Task(a5, 100_000), "a5_cycles": Task(a5_cycles, 100_000), "parity": Task(parity, 20_000)}


class SyntheticDocuments(Documents):
    """One split of a task; document i depends on the task, its length, the split and i alone."""

    def __init__(self, task: str, length: int, split: str):
        self._name = f"{task}:{length}:{split}"
        self._make, count = TASKS[task]
        count = COUNTS.get(split, count)
        self._split = SPLITS.index(split)
        # log-uniform: as many of 1 to 10 as of 10 to 100
        drawn = np.exp(np.random.default_rng((self._split, length)).uniform(0, np.log(length + 1), count))
        self._lengths = drawn.astype(np.int64) if split == "train" else np.full(count, length)
        self.sizes = self._lengths + 2

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def key(self) -> str:
        """Names what the documents hold."""
        return self._name

    def read(self, i: int, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of document i. Raises IndexError: i is not from -n to n - 1."""
        i = range(len(self))[i]
        length = int(self._lengths[i])
        return self._make(np.random.default_rng((self._split, length, i)), length)[start:stop]


class SyntheticCorpus(Corpus):
    """A task and its length, "parity:100", as a corpus without files.

    Raises ValueError for a task that there is not, and a length below 1.
    """

    def __init__(self, source: str):
        none = np.zeros(0, np.int64)
        super().__init__(source, "bytes", "", Index((), none, none, none, none, none, 0, 0), none)
        task, length = source.split(":")
        if task not in TASKS:
            raise ValueError(f"data.source={source!r} must name one of the tasks {', '.join(TASKS)}, or files")
        if int(length) < 1:
            raise ValueError(f"data.source={source!r} must have a length of at least 1")

    def documents(self, split: str) -> SyntheticDocuments:
        """The documents of "train", "validation" or "test". Raises ValueError: any other name."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        task, length = self.source.split(":")
        return SyntheticDocuments(task, int(length), split)
