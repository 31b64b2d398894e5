"""The fraction of documents whose last byte a model has right."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.analysis.accuracy import fraction_right
from jaxseq.data import ByteTokenizer


class Texts:
    def __init__(self, texts):
        self._texts, self.sizes = texts, np.array([len(text) for text in texts])

    def __len__(self):
        return len(self._texts)

    def __getitem__(self, i):
        return self._texts[i]


class Echo:
    """Expects the first byte of a document again."""

    def apply(self, variables, tokens):
        first = jnp.broadcast_to(tokens[:, 1:2], tokens.shape)
        return (first[..., None] == jnp.arange(ByteTokenizer.vocab)).astype(jnp.float32), None


def test_it_counts_last_bytes_alone_over_all_batches():
    texts = [b"0..0", b"1..0", b"1..1", b"0..0"] * 60  # more than a batch
    assert fraction_right(Echo(), {}, Texts(texts)) == pytest.approx(0.75)


def test_documents_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match=r"one length, got lengths \[1, 2\]"):
        fraction_right(Echo(), {}, Texts([b"0", b"00"]))
