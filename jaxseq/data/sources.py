"""From `data.source` to a corpus, whatever kind of source it is."""

import re
from functools import partial
from typing import Protocol

from jaxseq.data.corpus import Corpus, open_corpus
from jaxseq.data.files import find_files
from jaxseq.data.mixture import Mixture
from jaxseq.data.prepared import is_prepared, open_prepared
from jaxseq.data.synthetic import SyntheticCorpus
from jaxseq.data.token_files import open_token_files
from jaxseq.data.tokenizer import ByteTokenizer, Tokenizer


class DataFields(Protocol):
    """The fields of `DataConfig` that say what is read."""

    @property
    def source(self) -> str | tuple[str, ...]:
        """One source or several."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """Of several sources."""
        ...

    @property
    def encoding(self) -> str:
        """See `open_corpus`, as the rest."""
        ...

    @property
    def field(self) -> str:
        """See `open_corpus`."""
        ...

    @property
    def piece_bytes(self) -> int:
        """See `open_corpus`."""
        ...

    @property
    def delimiter(self) -> str | None:
        """See `open_corpus`."""
        ...


def open_data(data: DataFields, tokenizer: Tokenizer) -> Corpus:
    """The corpus of a config; see `open_source`."""
    return open_source(
        data.source,
        weights=data.weights,
        tokenizer=tokenizer,
        encoding=data.encoding,
        field=data.field,
        piece_bytes=data.piece_bytes,
        delimiter=data.delimiter,
    )


def open_source(
    source: str | tuple[str, ...],
    *,
    weights: tuple[float, ...] = (),
    tokenizer: Tokenizer | None = None,
    encoding: str = "utf-8",
    field: str = "text",
    piece_bytes: int = 65536,
    delimiter: str | None = None,
    fractions: tuple[float, float, float] = (0.90, 0.05, 0.05),
) -> Corpus:
    """A corpus of text (`open_corpus`), of a task ("parity:100", see `synthetic`), of a folder that was prepared (see
    `prepared`), of token files (`*.bin`, see `token_files`), or of several sources, each of any kind.

    Args:
      source: one, or a tuple of them: a mixture.
      weights: of a mixture, positive, one for each source: the proportions in which training draws targets from them.
        None given: in proportion to their bytes.
      tokenizer: for sources that are tokens already; bytes if not given.
      encoding, field, piece_bytes, delimiter, fractions: see `open_corpus`.

    Raises what those raise; ValueError: weights that do not fit the sources.
    """
    one = partial(
        _open_one,
        tokenizer=tokenizer or ByteTokenizer(),
        encoding=encoding,
        field=field,
        piece_bytes=piece_bytes,
        delimiter=delimiter,
        fractions=fractions,
    )
    check_weights(source if isinstance(source, tuple) else (source,), weights)
    if not isinstance(source, tuple):
        return one(source)
    corpora = [one(each) for each in source]
    return Mixture(corpora, weights or [float(c.documents("train").sizes.sum()) for c in corpora])


def _open_one(
    source: str,
    *,
    tokenizer: Tokenizer,
    encoding: str,
    field: str,
    piece_bytes: int,
    delimiter: str | None,
    fractions: tuple[float, float, float],
) -> Corpus:
    if re.fullmatch(r"[a-z0-9_]+:\d+", source):
        return SyntheticCorpus(source)
    if is_prepared(source):
        return open_prepared(source, tokenizer, fractions=fractions)
    files = [] if source == "stdlib" else find_files(source)
    ids = [file for file in files if file.path.lower().endswith(".bin")]
    if ids and len(ids) < len(files):
        raise ValueError(f"data.source={source!r} has .bin files, which are token ids, and others: name them apart")
    if ids:
        return open_token_files(source, ids, tokenizer, piece_tokens=piece_bytes, fractions=fractions)
    return open_corpus(
        source, encoding=encoding, field=field, piece_bytes=piece_bytes, delimiter=delimiter, fractions=fractions
    )


def check_weights(source: tuple[str, ...], weights: tuple[float, ...]) -> None:
    """Raises ValueError: no source, or weights that are not one positive number for each."""
    if not source:
        raise ValueError("data.source must name at least one source, got ()")
    if weights and (len(weights) != len(source) or not all(0 < w < float("inf") for w in weights)):
        raise ValueError(f"data.weights must be {len(source)} positive numbers, one for each source, got {weights}")
