"""What is refused of a config whatever way it was made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from jaxseq.config import check, to_json
from tests.config.sample import Experiment, Model, Schedule, Stage, refuses, set_one


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Model(layers="oops"), "layers: wanted int, got 'oops'"),  # type: ignore[arg-type]
        (Model(layers=True), "layers: wanted int, got True"),
        (Model(bias=1), "bias: wanted bool, got 1"),  # type: ignore[arg-type]
        (Model(dropout=math.nan), "dropout: wanted float, got nan, which is not allowed"),
        (Model(dropout=10**400), f"dropout: wanted float or None, got {10**400}"),
        (Model(dropout=2**53 + 1), f"dropout: wanted float or None, got {2**53 + 1}"),
        (Model(options={"lru": 3}), "options.lru: wanted dict[str, LEAF], got 3"),  # type: ignore[dict-item]
        (Model(options={"lru": {"a": [1]}}), "options.lru.a: wanted LEAF, got [1]"),  # type: ignore[dict-item]
        (
            Model(options={3: {}}),  # type: ignore[dict-item]
            "options: wanted keys that are non-empty text without '.' or '=', got 3",
        ),
        (
            Model(options={"a.b": {}}),
            "options: wanted keys that are non-empty text without '.' or '=', got 'a.b'",
        ),
        (
            Model(mixer="lrv"),  # type: ignore[arg-type]
            "mixer: wanted one of 'lru', 'mamba', 'para_rnn', got 'lrv'; did you mean 'lru'?",
        ),
        (Experiment(model=Model(layers=2.0)), "model.layers: wanted int, got 2.0"),  # type: ignore[arg-type]
        (Experiment(model=Schedule()), "model: wanted Model, got Schedule(warmup=10, peak=0.001)"),  # type: ignore[arg-type]
        (Experiment(sizes=[1]), "sizes: wanted tuple[int, ...], got [1]"),  # type: ignore[arg-type]
        (Experiment(sizes=(1, "a")), "sizes[1]: wanted int, got 'a'"),  # type: ignore[arg-type]
        (Experiment(betas=(1.0,)), "betas: wanted tuple[float, float], got (1.0,)"),  # type: ignore[arg-type]
        (Experiment(stages=(Stage("a"),)), "stages[0].steps: wanted int, got 'a'"),  # type: ignore[arg-type]
    ],
)
def test_check_refuses_a_value_of_the_wrong_type(config, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole text is compared
        check(config)
    assert _short(str(caught.value)) == message


def _short(message: str) -> str:
    """The message with the long spelling of Leaf, in words or as an annotation, replaced by LEAF."""
    items = r"tuple\[bool \| int \| float \| str \| None, \.\.\.\]"
    return re.sub(rf"bool (or|\|) int \1 float \1 str \1 None \1 {items}", "LEAF", message)


def test_check_takes_an_int_for_a_float():
    check(Model(dropout=1))


def test_check_refuses_a_subclass_because_json_would_lose_it():
    class Name(str):
        pass

    with refuses("name: wanted str, got 'x'"):
        check(Experiment(name=Name("x")))


def test_override_checks_the_rest_of_the_config():
    with refuses("model.layers: wanted int, got 'oops'"):
        set_one("name=x", Experiment(model=Model(layers="oops")))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Loose:
    x: int = "a"  # type: ignore[assignment]
    y: int = 0


@dataclass(frozen=True)
class HoldsLoose:
    loose: Loose | None = None


def test_override_checks_the_defaults_that_it_fills_in():
    with refuses("loose.x: wanted int, got 'a'"):
        set_one("loose.y=1", HoldsLoose())


@dataclass(frozen=True)
class OneOrTwo:
    count: Literal[1, 2] = 1


def test_true_is_no_choice_where_one_is():
    with refuses("count: wanted one of 1, 2, got True"):
        check(OneOrTwo(count=True))  # type: ignore[arg-type]


def test_text_names_a_choice_that_is_a_number():
    assert set_one("count=2", OneOrTwo()).count == 2


@dataclass(frozen=True)
class Derived:
    x: int = 1
    twice: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.x)


def test_a_derived_field_is_no_part_of_the_json():
    assert to_json(Derived(2)) == {"x": 2}


def test_a_derived_field_follows_an_override():
    assert set_one("x=3", Derived()).twice == 6


def test_a_derived_field_cannot_be_set():
    with refuses("twice: no such field; the fields are x"):
        set_one("twice=3", Derived())


@dataclass(frozen=True)
class WithList:
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class WithTwoDataclasses:
    item: Schedule | Stage = field(default_factory=Schedule)


@dataclass(frozen=True)
class WithTwoTuples:
    item: tuple[int, ...] | tuple[str, ...] = ()


@dataclass(frozen=True)
class WithNumberedKeys:
    item: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WithBytes:
    item: Literal[b"x"] = b"x"


@dataclass(frozen=True)
class WithAny:
    item: Any = None


@dataclass(frozen=True)
class WithUnknownName:
    item: Missing = 3  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (WithList(), "WithList.items: the annotation list[int] is not supported in a config"),
        (WithAny(), "WithAny.item: the annotation Any is not supported in a config"),
        (
            WithTwoDataclasses(),
            "WithTwoDataclasses.item: the annotation Schedule or Stage is not supported in a config",
        ),
        (
            WithTwoTuples(),
            "WithTwoTuples.item: the annotation tuple[int, ...] or tuple[str, ...] is not supported in a config",
        ),
        (WithNumberedKeys(), "WithNumberedKeys.item: the annotation dict[int, int] is not supported in a config"),
        (WithBytes(), "WithBytes.item: the annotation one of b'x' is not supported in a config"),
        (WithUnknownName(), "WithUnknownName: cannot resolve an annotation: name 'Missing' is not defined"),
    ],
)
def test_an_unsupported_annotation_is_refused(config, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole text is compared
        check(config)
    assert str(caught.value).replace("typing.", "") == message
