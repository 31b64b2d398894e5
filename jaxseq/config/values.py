"""What a config field may hold, and the check that it does.

An annotation ("kind") is bool, int, float, str, None, Literal[...], tuple[T, ...], tuple[T1, T2], dict[str, T], a
dataclass, or a union of these with at most one dataclass or dict and at most one tuple: JSON could not tell two of them
apart. A path is the dotted name of the value from the root of the config, as error messages show it.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Leaf = bool | int | float | str | None | tuple[bool | int | float | str | None, ...]
Options = dict[str, dict[str, Leaf]]

_SCALARS = (bool, int, float, str, NoneType)


# ---- errors


def join(path: str, name: str) -> str:
    """The path of `name` inside `path`; the root is the empty path."""
    return f"{path}.{name}" if path else name


def wrong(kind: Any, value: object, path: str) -> ValueError:
    """The error for a value that is not of its kind, with the nearest choice where the kind is a Literal."""
    near = nearest(value, _text_choices(kind))
    hint = f"; did you mean {near!r}?" if near else ""
    return ValueError(f"{path or 'config'}: wanted {describe(kind)}, got {value!r}{hint}")


def unknown(path: str, name: str, names: Iterable[str]) -> ValueError:
    """The error for a field `name` that the dataclass at `path` lacks, with the nearest of its `names`, else all."""
    names = list(names)
    near = nearest(name, names)
    hint = f"did you mean {join(path, near)!r}?" if near else f"the fields are {', '.join(names)}"
    return ValueError(f"{join(path, name)}: no such field; {hint}")


def nearest(value: object, names: Iterable[str]) -> str | None:
    """The one of `names` most like `value`; None where nothing is close or the value is no text."""
    close = difflib.get_close_matches(value, list(names), n=1) if isinstance(value, str) else []
    return close[0] if close else None


# ---- annotations


def describe(kind: Any) -> str:
    """The kind in words for an error message."""
    if len(members(kind)) > 1:
        return " or ".join(describe(member) for member in members(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if kind is NoneType:
        return "None"
    return kind.__name__ if isinstance(kind, type) and not get_origin(kind) else str(kind)


def members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union; any other kind is its own only alternative."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def is_dataclass_type(kind: Any) -> bool:
    """True for a dataclass itself, False for an instance of one and for all else."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def branch(kind: Any) -> Any | None:
    """The dataclass or dict among the alternatives: what can have a path below it. None where there is neither."""
    found = [member for member in members(kind) if is_dataclass_type(member) or get_origin(member) is dict]
    return found[0] if found else None


def tuple_member(kind: Any) -> Any | None:
    """The tuple among the alternatives, or None."""
    found = [member for member in members(kind) if get_origin(member) is tuple]
    return found[0] if found else None


def pair_items(kind: Any, items: Sequence[Any], path: str, shown: object) -> Iterator[tuple[Any, Any, str]]:
    """(kind, item, path) of each item of a tuple kind; ValueError with the value `shown` where the number is wrong."""
    args = get_args(kind)
    kinds = args[:1] * len(items) if args[1:] == (Ellipsis,) else args
    if len(kinds) != len(items):
        raise wrong(kind, shown, path)
    return ((kinds[i], items[i], f"{path}[{i}]") for i in range(len(items)))


@cache
def field_types(cls: type) -> Mapping[str, Any]:
    """Field name -> kind, for the fields that `cls` takes on construction, in their order.

    Raises ValueError for an annotation that cannot be resolved or is not supported, naming class and field.
    """
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise ValueError(f"{cls.__name__}: cannot resolve an annotation: {error}") from error
    kinds = {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
    for name, kind in kinds.items():
        if not _supported(kind):
            raise ValueError(f"{cls.__name__}.{name}: the annotation {describe(kind)} is not supported in a config")
    return MappingProxyType(kinds)


def _supported(kind: Any) -> bool:
    parts = members(kind)
    branches = [part for part in parts if is_dataclass_type(part) or get_origin(part) is dict]
    tuples = [part for part in parts if get_origin(part) is tuple]
    return len(branches) <= 1 and len(tuples) <= 1 and all(_supported_member(part) for part in parts)


def _supported_member(kind: Any) -> bool:
    args = get_args(kind)
    if get_origin(kind) is Literal:
        return all(type(choice) in _SCALARS for choice in args)
    if get_origin(kind) is tuple:
        return all(_supported(arg) for arg in args if arg is not Ellipsis)
    if get_origin(kind) is dict:
        return args[0] is str and _supported(args[1])
    return kind in _SCALARS or is_dataclass_type(kind)


def _text_choices(kind: Any) -> list[str]:
    literals = [member for member in members(kind) if get_origin(member) is Literal]
    return [choice for literal in literals for choice in get_args(literal) if isinstance(choice, str)]


# ---- checking


def check(config: object) -> None:
    """Verify that every value in a config has its annotated type, exactly; an int may stand where a float is annotated.

    Raises ValueError naming the path, the type wanted and the value: for a wrong type, for NaN, for a dict key that no
    override could name; and naming class and field for an annotation that is not supported (see above).
    """
    if not is_dataclass_type(type(config)):
        raise ValueError(f"config: wanted a dataclass instance, got {config!r}")
    fit(type(config), config, "")


def fit(kind: Any, value: Any, path: str) -> Any:
    """Return `value` if it is of `kind`, all the way down; an int where only a float is allowed comes back as a float.

    Types are exact (a bool is no int, a numpy float no float, a subclass no member), so that JSON can restore them. A
    dataclass comes back as it is. Raises ValueError naming path, kind and value; NaN is never of a kind.
    """
    fitting = [member for member in members(kind) if _accepts(member, value)]
    if not fitting:
        raise wrong(kind, value, path)
    member = min(fitting, key=lambda member: member is float)  # an int stays one where both are allowed
    if member is float:
        return _fit_float(value, path)
    if get_origin(member) is tuple:
        return tuple(fit(*item) for item in pair_items(member, value, path, value))
    if get_origin(member) is dict:
        return {_fit_key(key, path): fit(get_args(member)[1], item, join(path, key)) for key, item in value.items()}
    if is_dataclass_type(member):
        _fit_fields(value, path)
    return value


def _accepts(member: Any, value: object) -> bool:
    """Whether the outermost type is right; the parts are not looked at."""
    origin = get_origin(member)
    if origin is Literal:
        return any(type(choice) is type(value) and choice == value for choice in get_args(member))
    if member is float and type(value) is int:
        return _is_exact(value)
    return type(value) is (origin or member)


def _is_exact(value: int) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _fit_float(value: float, path: str) -> float:
    if math.isnan(value):
        raise ValueError(f"{path}: wanted float, got nan, which is not allowed")
    return float(value)


def _fit_key(key: object, path: str) -> str:
    if type(key) is not str or not key or "." in key or "=" in key:
        raise ValueError(f"{path}: wanted keys that are non-empty text without '.' or '=', got {key!r}")
    return key


def _fit_fields(config: Any, path: str) -> None:
    for name, kind in field_types(type(config)).items():
        fit(kind, getattr(config, name), join(path, name))
