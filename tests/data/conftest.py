"""Documents on disk from a list of bytes."""

import itertools
from collections.abc import Callable

import pytest

from jaxseq.data import Documents, open_corpus


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
