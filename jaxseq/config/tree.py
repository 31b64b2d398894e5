"""A config as a tree: changed by assignments, kept as JSON, compared.

    config = load_config("configs/copy.py")
    config = override(config, ["model.layers=4", "optim.betas=0.9,0.95", "model.options.para_rnn.heads=4"])
    assert from_json(type(config), to_json(config)) == config

Nothing here knows a particular config.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from jaxseq.config.text import parse
from jaxseq.config.values import (
    branch,
    check,
    describe,
    field_types,
    fit,
    is_dataclass_type,
    join,
    members,
    pair_items,
    tuple_member,
    unknown,
)

Config = TypeVar("Config")

_INFINITIES = ({"float": "inf"}, {"float": "-inf"})  # in JSON, which has none


class _Absent:
    """The value that one of two compared configs does not have."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


def _is_instance(value: object) -> bool:
    return is_dataclass_type(type(value))


# ---- override


def override(config: Config, assignments: Sequence[str]) -> Config:
    """A copy of `config` with each "a.b.c=value" carried out, the value read by the field's annotation.

    All assignments are carried out together, with one dataclasses.replace per dataclass, so their order is free and
    __post_init__ sees them all at once. A path below a field that is None first fills it with the defaults of its
    dataclass. A path below a dict sets a key in a copy; which keys make sense is for the owning __post_init__ to say.

    Raises ValueError, naming the path, for: no '=', an empty name, a path set twice or both whole and in part, an
    unknown field (with the nearest name, else all names), a path below a value without fields, text for a whole
    dataclass or dict, text of the wrong type; and whatever check() and __post_init__ raise.
    """
    check(config)
    plan = _plan(assignments)
    changed = _carry_out(type(config), config, plan, "") if plan else config
    check(changed)
    return changed


def _plan(assignments: Sequence[str]) -> dict[str, Any]:
    """The assignments as a tree: name -> subtree, or the text of the value."""
    plan: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"{assignment!r}: wanted path=value, but there is no '='")
        if not all(path.split(".")):
            raise ValueError(f"{assignment!r}: wanted path=value, but the path {path!r} has an empty name")
        _plant(plan, path, text)
    return plan


def _plant(plan: dict[str, Any], path: str, text: str) -> None:
    *parents, last = path.split(".")
    for depth, name in enumerate(parents, 1):
        plan = plan.setdefault(name, {})
        if isinstance(plan, str):
            raise ValueError(f"{'.'.join(parents[:depth])}: set both whole and in part")
    if last in plan:
        raise ValueError(f"{path}: set twice" if isinstance(plan[last], str) else f"{path}: set both whole and in part")
    plan[last] = text


def _carry_out(kind: Any, value: Any, plan: Any, path: str) -> Any:
    if isinstance(plan, str):
        return parse(kind, plan, path)
    owner = branch(kind)
    if owner is None:
        name = join(path, next(iter(plan)))
        raise ValueError(f"{name}: no such field; {path} is a value ({describe(kind)}) and has no fields")
    if is_dataclass_type(owner):
        return _replace(owner, value if _is_instance(value) else _defaults(owner, path), plan, path)
    old = value if isinstance(value, dict) else {}
    item = get_args(owner)[1]
    return old | {key: _carry_out(item, old.get(key), sub, join(path, key)) for key, sub in plan.items()}


def _replace(cls: type, value: Any, plan: dict[str, Any], path: str) -> Any:
    kinds = field_types(cls)
    for name in plan:
        if name not in kinds:
            raise unknown(path, name, kinds)
    changes = {name: _carry_out(kinds[name], getattr(value, name), sub, join(path, name)) for name, sub in plan.items()}
    return dataclasses.replace(value, **changes)


def _defaults(cls: type, path: str) -> Any:
    required = [name for name in field_types(cls) if name not in _with_default(cls)]
    if required:
        raise ValueError(f"{path}: is None, and a {cls.__name__} has no default for {', '.join(required)}")
    return cls()


def _with_default(cls: Any) -> set[str]:
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is not missing or f.default_factory is not missing}


# ---- JSON


def to_json(config: object) -> dict[str, Any]:
    """The config as plain JSON types: dataclasses become dicts, tuples lists, infinities {"float": "inf"} or "-inf".

    Standard JSON has no infinity; json.dumps(..., allow_nan=False) takes the result. Raises ValueError as check() does.
    """
    check(config)
    return _encode(config)


def _encode(value: Any) -> Any:
    if _is_instance(value):
        return {name: _encode(getattr(value, name)) for name in field_types(type(value))}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return {"float": str(value)}
    return value


def from_json(cls: type[Config], data: object, *, defaults: bool = False) -> Config:
    """The config of dataclass `cls` that to_json() turned into `data`; equal to it, with the same types.

    Lists become tuples everywhere, also as values in a dict, since no config holds a list; an int in a float field
    becomes a float. With `defaults`, a missing key takes its field's default: for configs older than a field. Raises
    ValueError naming the path for an unknown key (with the nearest name), a missing key, and a wrong type; and whatever
    __post_init__ raises.
    """
    if not is_dataclass_type(cls):
        raise ValueError(f"cls: wanted a dataclass, got {cls!r}")
    return _decode(cls, data, "", defaults)


def _decode(kind: Any, data: Any, path: str, defaults: bool) -> Any:
    """Turn JSON into Python by the shape of the data; fit() refuses the shapes that the kind does not have."""
    owner, row = branch(kind), tuple_member(kind)
    if isinstance(data, list) and row is not None:
        data = tuple(_decode(*item, defaults) for item in pair_items(row, data, path, data))
    elif float in members(kind) and data in _INFINITIES:
        data = float(data["float"])
    elif isinstance(data, dict) and is_dataclass_type(owner):
        data = _decode_fields(owner, data, path, defaults)
    elif isinstance(data, dict) and owner is not None:
        item = get_args(owner)[1]
        data = {key: _decode(item, value, join(path, key), defaults) for key, value in data.items()}
    return fit(kind, data, path)


def _decode_fields(cls: Any, data: dict[str, Any], path: str, defaults: bool) -> Any:
    kinds = field_types(cls)
    for name in data:
        if name not in kinds:
            raise unknown(path, name, kinds)
    for name in kinds:
        if name not in data:
            _refuse_missing(cls, name, path, defaults)
    return cls(**{name: _decode(kinds[name], item, join(path, name), defaults) for name, item in data.items()})


def _refuse_missing(cls: type, name: str, path: str, defaults: bool) -> None:
    if name not in _with_default(cls):
        raise ValueError(f"{join(path, name)}: missing, and the field has no default")
    if not defaults:
        raise ValueError(f"{join(path, name)}: missing; pass defaults=True to fill in the field's default")


# ---- comparison


def diff(a: object, b: object) -> list[tuple[str, Any, Any]]:
    """The leaves in which two configs of one class differ, as (dotted path, value in a, value in b), in field order.

    Keys of dicts count as paths. What only one side has is ABSENT, which prints as "(absent)", on the other: where a
    field is None in a and a dataclass in b, that is the None in b and each of the fields in a. A tuple is one leaf.
    Raises ValueError as check() does, and for configs of different classes.
    """
    check(a)
    check(b)
    if type(a) is not type(b):
        raise ValueError(f"diff: wanted two configs of one class, got {type(a).__name__} and {type(b).__name__}")
    return list(_differences(a, b, ""))


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    below_a, below_b = _children(a), _children(b)
    if not below_a and not below_b:
        if not _same(a, b):
            yield path, a, b
    elif not below_a and a is not ABSENT and a != {}:
        yield path, a, ABSENT
    elif not below_b and b is not ABSENT and b != {}:
        yield path, ABSENT, b
    for name in below_a | below_b:
        x, y = (below.get(name, ABSENT) for below in (below_a, below_b))
        yield from _differences(x, y, join(path, name))


def _children(value: Any) -> dict[str, Any]:
    if _is_instance(value):
        return {name: getattr(value, name) for name in field_types(type(value))}
    return value if isinstance(value, dict) else {}


def _same(a: Any, b: Any) -> bool:
    """Equality that tells True from 1, which == does not."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)
