"""Bytes to ids and back, all at once and one at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import ByteTokenizer, TextStream

TOKENIZER = ByteTokenizer()


@given(st.binary())
def test_decode_undoes_encode(document):
    assert TOKENIZER.decode(TOKENIZER.encode(document)) == document


def test_encode_puts_the_boundary_before_the_bytes():
    ids = TOKENIZER.encode(b"\x00\xff")
    assert ids.dtype == np.int32
    assert ids.tolist() == [256, 0, 255]


def test_decode_leaves_out_every_boundary():
    assert TOKENIZER.decode([256, 104, 256, 105]) == b"hi"


@pytest.mark.parametrize("wrong", [-1, 257])
def test_decode_refuses_an_id_outside_the_vocabulary(wrong):
    with pytest.raises(ValueError, match=f"ids must be from 0 to 256, got {wrong}"):
        TOKENIZER.decode([104, wrong])


@given(st.lists(st.integers(0, 256)), st.integers(1, 5))
def test_streamed_text_equals_text_decoded_at_once(ids, step):
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(ids[i : i + step]) for i in range(0, len(ids), step)]
    assert "".join([*pieces, stream.end()]) == TOKENIZER.decode(ids).decode("utf-8", "replace")


def test_a_character_comes_out_with_its_last_byte():
    stream = TextStream(TOKENIZER)
    assert [stream.push([byte]) for byte in "é!".encode()] == ["", "é", "!"]


def test_an_unfinished_character_ends_as_a_replacement_and_the_stream_starts_afresh():
    stream = TextStream(TOKENIZER)
    stream.push("é".encode()[:1])
    assert stream.end() == "\ufffd"
    assert stream.push(b"a") == "a"
