"""Several processes each read their own rows of an evaluation stream."""

import numpy as np
import pytest

from jaxseq.data import ByteTokenizer, stream_batches


def test_the_parts_of_a_stream_are_the_rows_of_the_whole(documents_of):
    documents = documents_of([b"one document", b"", b"and another one that is longer"])
    whole = stream_batches(documents, ByteTokenizer(), length=3, batch=4)
    parts = [stream_batches(documents, ByteTokenizer(), length=3, batch=4, part=p, parts=2) for p in range(2)]
    for batch, *halves in zip(whole, *parts, strict=True):
        for name, rows in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), rows)


@pytest.mark.parametrize(("part", "parts"), [(0, 3), (2, 2)])
def test_parts_that_do_not_divide_the_batch_are_refused(documents_of, part, parts):
    with pytest.raises(ValueError, match=f"parts must divide batch = 4, got part {part} of {parts}"):
        stream_batches(documents_of([b"text"]), ByteTokenizer(), length=3, batch=4, part=part, parts=parts)
