"""A config value read from the text of a command line, by its annotation."""

import ast
import math
import re
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jaxseq.config.values import field_types, fit, is_dataclass_type, join, members, pair_items, wrong

_BOOLS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
_WORDS = {"true": True, "false": False, "inf": math.inf, "-inf": -math.inf, "nan": math.nan}
# A quoted string (only where an item can begin, so that the apostrophe in it's stays plain text), or any one character.
_TOKEN = re.compile(r"""(?<![^\s(,])(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|.""", re.DOTALL)


def parse(kind: Any, text: str, path: str) -> Any:
    """The value of `kind` that `text` stands for.

    One alternative besides None: it is read as that type, and "None" or "none" is None where None is allowed. Several:
    a Python literal (or true, false, inf, -inf), anything else being plain text. Raises ValueError naming path, kind
    and text.
    """
    others = [member for member in members(kind) if member is not NoneType]
    if len(others) != 1:
        return fit(kind, _parse_literal(text), path)
    if NoneType in members(kind) and text.strip() in ("None", "none"):
        return None
    _refuse_branch(others[0], path)
    return fit(kind, _parse_member(others[0], kind, text, path), path)


def _refuse_branch(kind: Any, path: str) -> None:
    if is_dataclass_type(kind):
        fields = ", ".join(join(path, name) for name in field_types(kind))
        raise ValueError(f"{path}: a {kind.__name__} cannot be set from text; set its fields: {fields}")
    if get_origin(kind) is dict:
        raise ValueError(f"{path}: a dict cannot be set from text; set its keys: {path}.key=value")


def _parse_member(member: Any, kind: Any, text: str, path: str) -> Any:
    if get_origin(member) is tuple:
        return _parse_tuple(member, text, path)
    try:
        return _parse_choice(member, text) if get_origin(member) is Literal else _PARSERS[member](text)
    except (ValueError, KeyError):
        raise wrong(kind, text, path) from None


def _parse_choice(kind: Any, text: str) -> Any:
    """The choice the text names; KeyError where it names none."""
    return {str(choice): choice for choice in get_args(kind)}[_unquote(text.strip())]


def _parse_tuple(kind: Any, text: str, path: str) -> tuple[Any, ...]:
    try:
        items = _split_items(text)
    except ValueError:
        raise wrong(kind, text, path) from None
    return tuple(_parse_item(*item) for item in pair_items(kind, items, path, text))


def _parse_item(kind: Any, text: str, path: str) -> Any:
    """A quoted item is a Python string, escapes and all, so that str(a_tuple) reads back as the same tuple."""
    if str in members(kind) and _unquote(text) != text:
        value = _parse_literal(text)
        return value if value != text else _unquote(text)  # text itself: quoted, but no Python literal
    return parse(kind, text, path)


def _parse_literal(text: str) -> Any:
    if text.strip() in _WORDS:
        return _WORDS[text.strip()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):  # not a literal; TypeError: an unhashable key in a dict display
        return text


def _unquote(text: str) -> str:
    """The text without the pair of equal quotes around it, if it has one."""
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _split_items(text: str) -> list[str]:
    """The items of "(a, b)" or "a, b"; commas in quotes or inner parentheses do not split. ValueError if unbalanced."""
    items = _split_commas(text)
    if len(items) == 1 and items[0].startswith("(") and items[0].endswith(")"):
        items = _split_commas(items[0][1:-1])
    return items[:-1] if items[-1] == "" else items


def _split_commas(text: str) -> list[str]:
    items, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token == "(") - (token == ")")
        if depth < 0:
            break
        if token == "," and depth == 0:
            items.append("")
        else:
            items[-1] += token
    if depth:
        raise ValueError(f"unbalanced parentheses in {text!r}")
    return [item.strip() for item in items]


_PARSERS: dict[Any, Any] = {bool: lambda text: _BOOLS[text.strip()], int: int, float: float, str: _unquote}
