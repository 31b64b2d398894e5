"""Bytes as tokens, and tokens back to text while they arrive."""

import codecs
from collections.abc import Iterable

import numpy as np


class ByteTokenizer:
    """A token is a byte (0 to 255) or `bos`, 256, which opens every document. One byte is one token, always."""

    vocab = 257
    bos = 256

    @property
    def token_bytes(self) -> np.ndarray:
        """The bytes that each id stands for, (vocab,) float32."""
        return np.append(np.ones(256, np.float32), np.float32(0))

    def encode(self, document: bytes) -> np.ndarray:
        """A document of n bytes as (n + 1,) int32: `bos`, then the bytes."""
        ids = np.empty(len(document) + 1, np.int32)
        ids[0] = self.bos
        ids[1:] = np.frombuffer(document, np.uint8)
        return ids

    def decode(self, ids: np.ndarray | Iterable[int]) -> bytes:
        """The bytes of (n,) integer ids, `bos` left out. Raises ValueError: an id outside 0 to 256."""
        ids = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64)
        wrong = ids[(ids < 0) | (ids > self.bos)]
        if wrong.size:
            raise ValueError(f"ids must be from 0 to {self.bos}, got {wrong[0]}")
        return ids[ids != self.bos].astype(np.uint8).tobytes()


class TextStream:
    """Text from ids that arrive a few at a time: a character comes out once its last byte is in.

    Bytes that are not UTF-8 come out as U+FFFD; the pieces joined are `decode(ids).decode("utf-8", "replace")`.
    """

    def __init__(self, tokenizer: ByteTokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: np.ndarray | Iterable[int]) -> str:
        """The characters that (n,) more ids complete, possibly none. Raises ValueError: an id outside 0 to 256."""
        return self._decoder.decode(self._tokenizer.decode(ids))

    def end(self) -> str:
        """What is left of an unfinished character (U+FFFD or nothing); the stream may then be used afresh."""
        return self._decoder.decode(b"", True)
