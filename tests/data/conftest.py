"""Documents on disk from a list of bytes."""

import itertools
import os
from collections.abc import Callable

import pytest

from jaxseq.data import Documents, open_corpus
from jaxseq.data.bpe import train_bpe


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """What is unpacked and tokenised goes to a folder of the session, and is kept for all its tests."""
    before, folder = os.environ.get("JAXSEQ_CACHE"), tmp_path_factory.mktemp("cache")
    os.environ["JAXSEQ_CACHE"] = str(folder)
    yield folder
    os.environ.pop("JAXSEQ_CACHE")
    if before is not None:
        os.environ["JAXSEQ_CACHE"] = before


@pytest.fixture(scope="session")
def bpe():
    """A tokenizer of 512 ids, trained on text with long words, so that it has merges of many sizes."""
    text = "def encode(self, document): return self.tokenizer.encode(document)\n    the café 中文 😀 "
    return train_bpe([text.encode()] * 3 + [b"import numpy as np\n"] * 2, 512)


@pytest.fixture(scope="session")
def documents_of(tmp_path_factory) -> Callable[[list[bytes]], Documents]:
    """Writes one file per document, in order; all of them are in the split returned."""
    root = tmp_path_factory.mktemp("documents")
    numbers = itertools.count()

    def make(contents: list[bytes]) -> Documents:
        directory = root / str(next(numbers))
        directory.mkdir()
        for i, content in enumerate(contents):
            (directory / f"{i:06}").write_bytes(content)
        return open_corpus(str(directory), encoding="bytes", fractions=(1.0, 0.0, 0.0)).documents("train")

    return make
