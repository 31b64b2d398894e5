"""JSON lines: one document per line, the text under one field."""

import json
from collections.abc import Iterator
from typing import BinaryIO


def scan_jsonl(file: BinaryIO, path: str, *, field: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields (raw line, document) for every line; the document of a blank line or an empty text is b"".

    Raises ValueError: as `document_of_line`, with the line's number.
    """
    for number, line in enumerate(file, start=1):
        yield line, document_of_line(line, f"{path}:{number}", field=field)


def document_of_line(line: bytes, where: str, *, field: str) -> bytes:
    """The UTF-8 bytes of the string `field` of one JSON line; b"" for a blank line.

    `where` names the line in messages. Raises ValueError: the line is not UTF-8, not JSON, not an object, or its field
    is missing, not a string or not valid Unicode.
    """
    if not line.strip():
        return b""
    record = _parse(line, where)
    if field not in record:
        raise ValueError(
            f"data.field={field!r} is missing at {where}; the fields there are {_names(record)}: name one of them"
        )
    text = record[field]
    if not isinstance(text, str):
        kind = type(text).__name__
        raise ValueError(
            f"data.field={field!r} holds a {kind} at {where}; the fields there are {_names(record)}: name a string"
        )
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"data.field={field!r} holds half a surrogate pair at {where}, character {error.start}: mend that line"
        ) from error


def _parse(line: bytes, where: str) -> dict:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"data.source: {where} is not UTF-8 at byte {error.start} of the line: JSON lines must be UTF-8"
        ) from error
    except ValueError as error:
        raise ValueError(f"data.source: {where} is not JSON ({error}): every line must be one JSON object") from error
    if not isinstance(record, dict):
        raise ValueError(f"data.source: {where} is a JSON {type(record).__name__}: every line must be one JSON object")
    return record


def _names(record: dict) -> str:
    return ", ".join(sorted(record)) or "none"
