"""What a tokenizer is, bytes as tokens, and tokens back to text while they arrive."""

import codecs
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

FILE = "tokenizer.json"  # in the folder of a run


class Tokenizer(Protocol):
    """Bytes to ids and back, without loss.

    Attributes:
      name: "bytes", or one that is another for every other tokenizer.
      vocab: ids are from 0 to vocab - 1.
      bos: the id that opens and ends every document; no part of a document ever has it.
      token_bytes: (vocab,) float32, the bytes of a document that each id stands for; 0 for `bos`.
    """

    @property
    def name(self) -> str:
        """See the class."""
        ...

    @property
    def vocab(self) -> int:
        """See the class."""
        ...

    @property
    def bos(self) -> int:
        """See the class."""
        ...

    @property
    def token_bytes(self) -> np.ndarray:
        """See the class."""
        ...

    def encode(self, document: bytes) -> np.ndarray:
        """`bos` and the n ids of a document, (n + 1,) int32."""
        ...

    def encode_all(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of each document, (n,) int32, without `bos`."""
        ...

    def decode(self, ids: np.ndarray | Iterable[int]) -> bytes:
        """The bytes of (n,) integer ids, `bos` left out. Raises ValueError: an id outside the vocabulary."""
        ...


class ByteTokenizer:
    """A token is a byte (0 to 255) or `bos`, 256, which opens every document. One byte is one token, always."""

    name = "bytes"
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

    def encode_all(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """The bytes of each document, (n,) int32."""
        return [np.frombuffer(document, np.uint8).astype(np.int32) for document in documents]

    def decode(self, ids: np.ndarray | Iterable[int]) -> bytes:
        """The bytes of (n,) integer ids, `bos` left out. Raises ValueError: an id outside 0 to 256."""
        ids = checked_ids(ids, self.vocab)
        return ids[ids != self.bos].astype(np.uint8).tobytes()


def checked_ids(ids: np.ndarray | Iterable[int], vocab: int) -> np.ndarray:
    """(n,) int64 of the ids. Raises ValueError: one outside 0 to vocab - 1."""
    ids = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64)
    wrong = ids[(ids < 0) | (ids >= vocab)]
    if wrong.size:
        raise ValueError(f"ids must be from 0 to {vocab - 1}, got {wrong[0]}")
    return ids


def open_tokenizer(name: str, workdir: str | Path | None = None) -> Tokenizer:
    """The tokenizer of `data.tokenizer`: "bytes", or the byte-level BPE of a file of the library `tokenizers`.

    A run's folder has a copy of the file (`save_tokenizer`): with `workdir`, that copy is read where there is one, and
    the original may be gone. Raises FileNotFoundError: neither is there. ValueError: as `read_bpe`.
    """
    if name == "bytes":
        return ByteTokenizer()
    from jaxseq.data.bpe import read_bpe

    copy = None if workdir is None else Path(workdir) / FILE
    if copy is not None and copy.is_file() and (copy.parent / "config.json").is_file():
        return read_bpe(copy)
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"data.tokenizer={name!r} does not exist: give 'bytes' or a JSON file (launch/train_tokenizer.py makes one)"
        )
    return read_bpe(name)


def save_tokenizer(tokenizer: Tokenizer, workdir: str | Path) -> None:
    """Puts a copy of a tokenizer's file into a run's folder, so that the folder is enough; nothing for bytes."""
    from jaxseq.data.cache import write_whole

    text = getattr(tokenizer, "json", None)
    if text is not None:
        write_whole(Path(workdir) / FILE, text.encode())


class TextStream:
    """Text from ids that arrive a few at a time: a character comes out once its last byte is in.

    Bytes that are not UTF-8 come out as U+FFFD; the pieces joined are `decode(ids).decode("utf-8", "replace")`.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: np.ndarray | Iterable[int]) -> str:
        """The characters that (n,) more ids complete, possibly none. Raises ValueError: an id of no token."""
        return self._decoder.decode(self._tokenizer.decode(ids))

    def end(self) -> str:
        """What is left of an unfinished character (U+FFFD or nothing); the stream may then be used afresh."""
        return self._decoder.decode(b"", True)
