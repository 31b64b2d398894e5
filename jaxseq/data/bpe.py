"""Byte-level BPE from files of the library `tokenizers`, made to be lossless on any bytes."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseq.data.cache import write_whole
from jaxseq.data.tokenizer import checked_ids

BOS = ("<bos>", "<|endoftext|>", "<s>")  # the first of these that a file has
_NOT_UTF8 = re.compile("([\udc80-\udcff])")  # how "surrogateescape" writes a byte that is not UTF-8


class BPETokenizer:
    """Byte pair encoding over bytes (Sennrich et al. 2016, arXiv 1508.07909; over bytes: Radford et al. 2019, section
    2.2), with the merges of a file. Text that reads like a special token is text; bytes that are not UTF-8 are a token
    each. So `decode(encode(document)) == document` for any bytes.

    Attributes:
      name: "bpe-" and a hash of the file.
      vocab, bos, token_bytes: see `Tokenizer`. Special tokens other than `bos` have 0 bytes too.
      json: the text of the file.
    """

    def __init__(self, text: str, where: str = "data.tokenizer"):
        """Raises ValueError: not a file of the library, or not byte-level, or it changes text, or it has no BOS."""
        self.json = text
        self.name = f"bpe-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self._tokenizer = _parse(text, where)
        self._tokenizer.encode_special_tokens = True
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        found = [name for name in BOS if name in vocabulary]
        if not found:
            raise ValueError(f"{where} must have one of the tokens {', '.join(BOS)} to begin documents, it has none")
        self.bos = vocabulary[found[0]]
        self.vocab = max(vocabulary.values()) + 1
        self._bytes = _bytes_of_ids(self._tokenizer, vocabulary, where)
        self._byte_ids = {self._bytes[i]: i for i in vocabulary.values() if len(self._bytes[i]) == 1}
        self.token_bytes = np.array([len(token) for token in self._bytes], np.float32)
        self._check(where)

    def encode(self, document: bytes) -> np.ndarray:
        """`bos` and the n ids of a document, (n + 1,) int32."""
        return np.concatenate([np.array([self.bos], np.int32), self._encode(document)])

    def encode_all(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of each document, (n,) int32, without `bos`; on all cores."""
        texts = [document.decode("utf-8", "surrogateescape") for document in documents]
        found = self._tokenizer.encode_batch_fast(
            ["" if _NOT_UTF8.search(text) else text for text in texts], add_special_tokens=False
        )
        ids = [np.array(encoding.ids, np.int32) for encoding in found]
        return [i if len(i) else self._encode(d) for i, d in zip(ids, documents, strict=True)]

    def decode(self, ids: np.ndarray | Iterable[int]) -> bytes:
        """The bytes of (n,) integer ids, special tokens left out. Raises ValueError: an id outside the vocabulary."""
        return b"".join([self._bytes[i] for i in checked_ids(ids, self.vocab).tolist()])

    def _encode(self, document: bytes) -> np.ndarray:
        """Text between bytes that are not UTF-8 is tokenised, such a byte is the token of that byte."""
        ids: list[int] = []
        for i, part in enumerate(_NOT_UTF8.split(document.decode("utf-8", "surrogateescape"))):
            if i % 2:
                ids.append(self._byte_ids[part.encode("utf-8", "surrogateescape")])
            elif part:
                ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        return np.array(ids, np.int32)

    def _check(self, where: str) -> None:
        lost = [i for i in range(256) if bytes([i]) not in self._byte_ids]
        if lost:
            raise ValueError(f"{where} must have a token for each of the 256 bytes, it has none for {lost[:3]}")
        probe = f"\n  A\ufb01\u00e9e\u0301 \u4e2d\t😀 {BOS[0]}{BOS[1]} \r\n x".encode()
        if self.decode(self.encode(probe)) != probe:
            raise ValueError(f"{where} must be byte-level BPE that keeps text as it is: {probe!r} comes back changed")


def read_bpe(path: str | Path) -> BPETokenizer:
    """The tokenizer of a JSON file. Raises OSError where it cannot be read, ValueError as `BPETokenizer`, both naming
    it; ModuleNotFoundError without the package tokenizers."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"data.tokenizer: {path} is not UTF-8 at byte {error.start}: give a JSON file") from error
    return BPETokenizer(text, f"data.tokenizer: {path}")


def train_bpe(texts: Iterable[bytes], vocab: int) -> BPETokenizer:
    """Byte-level BPE of `vocab` ids, trained on texts: "<bos>", the 256 bytes, and as many merges as there is room for.

    Text is first cut into words by GPT-2's pattern. Deterministic. Raises ValueError: vocab below 257.
    """
    if vocab < 257:
        raise ValueError(f"vocab must be at least 257 (256 bytes and {BOS[0]}), got {vocab}")
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[BOS[0]],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.decode("utf-8", "replace") for text in texts), trainer)
    return BPETokenizer(tokenizer.to_str(pretty=True))


def train_file(source: tuple[str, ...], vocab: int, to: str, *, field: str, delimiter: str | None) -> str:
    """`train_bpe` on the training split of a source or several, written to a file; a line that says what came out.

    Raises ValueError and OSError as `train_bpe` and `open_source` do.
    """
    from jaxseq.data.sources import open_source

    documents = open_source(source, field=field, delimiter=delimiter).documents("train")
    tokenizer = train_bpe((documents[i] for i in range(len(documents))), vocab)
    write_whole(Path(to), tokenizer.json.encode())
    return f"{to}: {tokenizer.vocab} ids, {tokenizer.name}, trained on {int(documents.sizes.sum()):,} bytes"


def _library() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ValueError("data.tokenizer needs the package tokenizers: pip install 'jaxseq[tokenizers]'") from error
    return tokenizers


def _parse(text: str, where: str) -> Any:
    try:
        json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}): give a file of the library tokenizers") from error
    parse: Callable[[str], Any] = _library().Tokenizer.from_str
    try:
        return parse(text)
    except Exception as error:  # the library raises the base class, whatever is wrong
        raise ValueError(f"{where} is not a file of the library tokenizers ({error})") from error


def _bytes_of_ids(tokenizer: Any, vocabulary: dict[str, int], where: str) -> list[bytes]:
    """The bytes of every id from 0 on; none for special tokens and for ids that are not used."""
    byte_of, added = _byte_of_letter(), tokenizer.get_added_tokens_decoder()
    found = [b""] * (max(vocabulary.values()) + 1)
    for token, i in vocabulary.items():
        if i in added:
            found[i] = b"" if added[i].special else token.encode()
        elif set(token) <= byte_of.keys():
            found[i] = bytes(byte_of[letter] for letter in token)
        else:
            raise ValueError(f"{where} must be byte-level, its token {token!r} is not made of bytes")
    return found


def _byte_of_letter() -> dict[str, int]:
    """The letters that stand for bytes in such files: a printable character of Latin-1 is its own byte, the other 68
    are the characters from 256 on, in order (Radford et al. 2019, the code published with it)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
