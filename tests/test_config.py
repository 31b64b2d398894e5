from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseq.config import ABSENT, Leaf, Options, check, diff, from_json, load_config, override, to_json


@dataclass(frozen=True)
class Schedule:
    warmup: int = 10
    peak: float = 1e-3


@dataclass(frozen=True)
class Stage:
    steps: int
    name: str = "main"


@dataclass(frozen=True)
class Model:
    layers: int = 2
    width: int = 8
    heads: int = 2
    mixer: Literal["lru", "mamba", "para_rnn"] = "lru"
    bias: bool = True
    dropout: float | None = None
    options: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width {self.width}, got {self.heads}")


@dataclass(frozen=True)
class Experiment:
    kind: ClassVar[str] = "experiment"
    name: str = "run"
    tag: str | None = None
    model: Model = Model()
    schedule: Schedule | None = None
    stage: Stage | None = None
    stages: tuple[Stage, ...] = ()
    betas: tuple[float, float] = (0.9, 0.95)
    sizes: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    grid: tuple[tuple[int, int], ...] = ()
    limit: int | Literal["auto"] = "auto"
    scale: float | str = 1.0


BASE = Experiment()


def refuses(text: str) -> Any:
    """A ValueError whose message is exactly this text."""
    return pytest.raises(ValueError, match=f"^{re.escape(text)}$")


def set_one(assignment: str, config: Any = BASE) -> Any:
    return override(config, [assignment])


# ---- override: paths


def test_override_changes_the_named_field_and_nothing_else():
    assert set_one("model.layers=4") == replace(BASE, model=replace(BASE.model, layers=4))


def test_override_leaves_the_original_as_it_was():
    config = Experiment(model=Model(options={"para_rnn": {"heads": 1}}))
    set_one("model.options.para_rnn.heads=4", config)
    assert config.model.options == {"para_rnn": {"heads": 1}}


def test_override_runs_post_init():
    with refuses("heads must divide width 8, got 3"):
        set_one("model.heads=3")


def test_assignments_valid_only_together_are_carried_out_together():
    assert override(BASE, ["model.heads=3", "model.width=9"]).model.heads == 3


def test_override_of_nothing_is_the_same_config():
    assert override(BASE, []) is BASE


def test_a_typo_names_the_nearest_field_by_its_full_path():
    with refuses("model.layres: no such field; did you mean 'model.layers'?"):
        set_one("model.layres=4")


def test_a_typo_above_the_last_name_is_found():
    with refuses("modle: no such field; did you mean 'model'?"):
        set_one("modle.layers=4")


def test_a_name_like_no_field_lists_the_fields():
    with refuses("schedule.xyz: no such field; the fields are warmup, peak"):
        set_one("schedule.xyz=4")


def test_a_class_variable_is_no_field():
    with pytest.raises(ValueError, match=r"^kind: no such field"):
        set_one("kind=other")


def test_an_assignment_without_equals_is_refused():
    with refuses("'model.layers': wanted path=value, but there is no '='"):
        set_one("model.layers")


@pytest.mark.parametrize("path", ["", "model.", ".layers", "model..layers"])
def test_an_empty_name_in_a_path_is_refused(path):
    with refuses(f"'{path}=4': wanted path=value, but the path '{path}' has an empty name"):
        set_one(f"{path}=4")


def test_only_the_first_equals_separates_path_and_value():
    assert set_one("name=a=b").name == "a=b"


def test_a_path_set_twice_is_refused():
    with refuses("model.layers: set twice"):
        override(BASE, ["model.layers=4", "model.layers=4"])


@pytest.mark.parametrize("order", [1, -1])
def test_a_path_set_whole_and_in_part_is_refused(order):
    with refuses("schedule: set both whole and in part"):
        override(BASE, ["schedule=None", "schedule.warmup=1"][::order])


def test_a_path_below_a_leaf_is_refused():
    with refuses("model.layers.x: no such field; model.layers is a value (int) and has no fields"):
        set_one("model.layers.x=4")


def test_a_path_below_a_leaf_of_a_dict_is_refused():
    with pytest.raises(ValueError, match=r"^model\.options\.lru\.heads\.x: no such field; .* and has no fields$"):
        set_one("model.options.lru.heads.x=4")


def test_a_path_below_none_fills_in_the_defaults():
    assert set_one("schedule.warmup=5").schedule == Schedule(warmup=5)


def test_a_path_below_none_keeps_several_assignments():
    assert override(BASE, ["schedule.warmup=5", "schedule.peak=1"]).schedule == Schedule(5, 1.0)


def test_a_typo_below_none_is_found():
    with refuses("schedule.warmpu: no such field; did you mean 'schedule.warmup'?"):
        set_one("schedule.warmpu=5")


def test_a_path_below_none_needs_defaults_for_all_fields():
    with refuses("stage: is None, and a Stage has no default for steps"):
        set_one("stage.name=x")


def test_a_whole_dataclass_cannot_be_set_from_text():
    with refuses(
        "schedule: a Schedule cannot be set from text; set its fields: schedule.warmup, schedule.peak",
    ):
        set_one("schedule=Schedule()")


def test_an_optional_dataclass_can_be_set_to_none():
    assert set_one("schedule=None", Experiment(schedule=Schedule())).schedule is None


@pytest.mark.parametrize("path", ["model.options", "model.options.lru"])
def test_a_whole_dict_cannot_be_set_from_text(path):
    with refuses(f"{path}: a dict cannot be set from text; set its keys: {path}.key=value"):
        set_one(f"{path}=4")


def test_override_refuses_what_is_no_dataclass():
    with refuses("config: wanted a dataclass instance, got 3"):
        set_one("a=1", 3)


# ---- override: values


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("model.layers= 3 ", 3),
        ("model.layers=-3", -3),
        ("model.bias=true", True),
        ("model.bias=True", True),
        ("model.bias=1", True),
        ("model.bias=false", False),
        ("model.bias=False", False),
        ("model.bias=0", False),
        ("model.dropout=1e-3", 1e-3),
        ("model.dropout=3", 3.0),
        ("model.dropout=-inf", -math.inf),
        ("model.dropout=None", None),
        ("model.dropout=none", None),
        ("model.mixer=mamba", "mamba"),
        ("model.mixer='mamba'", "mamba"),
        ("name=", ""),
        ("name= a b ", " a b "),
        ("name='a'", "a"),
        ('name="a"', "a"),
        ("name='a\"", "'a\""),
        ("name='", "'"),
        (r"name='C:\new'", r"C:\new"),
        ("name=None", "None"),
        ("tag=None", None),
        ("tag='None'", "None"),
        ("betas=(0.5,1)", (0.5, 1.0)),
        ("betas=0.5, 1", (0.5, 1.0)),
        ("sizes=", ()),
        ("sizes=()", ()),
        ("sizes=1", (1,)),
        ("sizes=(1,)", (1,)),
        ("sizes= ( 1 , 2 ) ", (1, 2)),
        ("words=a,b", ("a", "b")),
        ("words=('a','b')", ("a", "b")),
        ("words='a,b', c", ("a,b", "c")),
        ("words=it's,here's", ("it's", "here's")),
        ("words=1,2", ("1", "2")),
        (r"words='a\nb',c", ("a\nb", "c")),
        ("words='a\nb',c", ("a\nb", "c")),
        ("grid=(1,2),(3,4)", ((1, 2), (3, 4))),
        ("grid=((1,2),)", ((1, 2),)),
        ("limit=3", 3),
        ("limit=auto", "auto"),
        ("scale=3", 3.0),
        ("scale=big", "big"),
    ],
)
def test_text_is_read_by_the_annotation(assignment, expected):
    config = set_one(assignment)
    *parents, last = assignment.partition("=")[0].split(".")
    value = getattr(config.model if parents else config, last)
    assert repr(value) == repr(expected)  # repr tells 1 from 1.0 and from True


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.layers=oops", "model.layers: wanted int, got 'oops'"),
        ("model.layers=3.5", "model.layers: wanted int, got '3.5'"),
        ("model.layers=True", "model.layers: wanted int, got 'True'"),
        ("model.layers=None", "model.layers: wanted int, got 'None'"),
        ("model.layers=", "model.layers: wanted int, got ''"),
        ("model.bias=yes", "model.bias: wanted bool, got 'yes'"),
        ("model.bias=2", "model.bias: wanted bool, got '2'"),
        ("model.dropout=x", "model.dropout: wanted float or None, got 'x'"),
        ("model.dropout=nan", "model.dropout: wanted float, got nan, which is not allowed"),
        (
            "model.mixer=mamab",
            "model.mixer: wanted one of 'lru', 'mamba', 'para_rnn', got 'mamab'; did you mean 'mamba'?",
        ),
        ("model.mixer=xyz", "model.mixer: wanted one of 'lru', 'mamba', 'para_rnn', got 'xyz'"),
        ("betas=1,2,3", "betas: wanted tuple[float, float], got '1,2,3'"),
        ("betas=1", "betas: wanted tuple[float, float], got '1'"),
        ("sizes=1,x", "sizes[1]: wanted int, got 'x'"),
        ("sizes=1,,2", "sizes[1]: wanted int, got ''"),
        ("sizes=(1,2", "sizes: wanted tuple[int, ...], got '(1,2'"),
        ("sizes=1),(2", "sizes: wanted tuple[int, ...], got '1),(2'"),
        ("grid=(1,2),(3,)", "grid[1]: wanted tuple[int, int], got '(3,)'"),
        ("limit=aut", "limit: wanted int or one of 'auto', got 'aut'; did you mean 'auto'?"),
        ("stages=a,b", "stages[0]: a Stage cannot be set from text; set its fields: stages[0].steps, stages[0].name"),
    ],
)
def test_text_of_the_wrong_type_is_refused(assignment, message):
    with refuses(message):
        set_one(assignment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", 4),
        ("4.0", 4.0),
        ("1e-3", 1e-3),
        ("True", True),
        ("true", True),
        ("false", False),
        ("None", None),
        ("none", "none"),
        ("relu", "relu"),
        ("'4'", "4"),
        ("a b", "a b"),
        ("{[]: 1}", "{[]: 1}"),
        ("(1, 'a')", (1, "a")),
        ("1,2", (1, 2)),
        ("inf", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_text_for_a_key_of_a_dict_is_a_literal_or_else_a_string(text, expected):
    options = set_one(f"model.options.para_rnn.key={text}").model.options
    assert repr(options) == repr({"para_rnn": {"key": expected}})


def test_a_key_of_a_dict_is_set_beside_its_neighbours():
    config = Experiment(model=Model(options={"lru": {"a": 1}, "para_rnn": {"heads": 1, "b": 2}}))
    options = set_one("model.options.para_rnn.heads=4", config).model.options
    assert options == {"lru": {"a": 1}, "para_rnn": {"heads": 4, "b": 2}}


@pytest.mark.parametrize(("text", "shown"), [("[1]", "[1]"), ("{1: 2}", "{1: 2}"), ("1j", "1j")])
def test_a_literal_that_no_leaf_can_hold_is_refused(text, shown):
    with pytest.raises(ValueError, match=rf"^model\.options\.lru\.key: wanted bool or .*, got {re.escape(shown)}$"):
        set_one(f"model.options.lru.key={text}")


def test_nan_for_a_key_of_a_dict_is_refused():
    with refuses("model.options.lru.key: wanted float, got nan, which is not allowed"):
        set_one("model.options.lru.key=nan")


# ---- check


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
    item: Schedule | Stage = Schedule()


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


# ---- JSON

FULL = Experiment(
    tag="t",
    model=Model(dropout=0.5, options={"para_rnn": {"heads": 4, "shape": (1, 2.5, "a", None, True), "top": math.inf}}),
    schedule=Schedule(),
    stages=(Stage(1), Stage(2, "b")),
    betas=(0.5, math.inf),
    sizes=(1, 2),
    words=("a",),
    grid=((1, 2), (3, 4)),
    limit=3,
    scale="inf",
)


def through_text(config: Any) -> Any:
    return json.loads(json.dumps(to_json(config), allow_nan=False))


def test_a_config_comes_back_from_json_text_with_its_types():
    assert repr(from_json(Experiment, through_text(FULL))) == repr(FULL)


def test_to_json_is_plain():
    assert to_json(Schedule(peak=math.inf)) == {"warmup": 10, "peak": {"float": "inf"}}


def test_to_json_turns_tuples_into_lists():
    assert to_json(FULL)["grid"] == [[1, 2], [3, 4]]


def test_infinity_in_a_union_with_text_is_told_from_the_word():
    assert from_json(Experiment, through_text(Experiment(scale=-math.inf))).scale == -math.inf


def test_an_int_in_a_float_field_comes_back_as_a_float():
    assert repr(from_json(Schedule, through_text(Schedule(peak=1))).peak) == "1.0"


def test_to_json_refuses_a_wrong_type():
    with refuses("warmup: wanted int, got 'x'"):
        to_json(Schedule(warmup="x"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warmpu": 1}, "warmpu: no such field; did you mean 'warmup'?"),
        ({"warmup": "1"}, "warmup: wanted int, got '1'"),
        ({"warmup": True}, "warmup: wanted int, got True"),
        ({"warmup": None}, "warmup: wanted int, got None"),
        ({"peak": [1.0]}, "peak: wanted float, got [1.0]"),
        ({"peak": {"float": "nan"}}, "peak: wanted float, got {'float': 'nan'}"),
    ],
)
def test_from_json_refuses_bad_data(change, message):
    with refuses(message):
        from_json(Schedule, to_json(Schedule()) | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 3}, "model: wanted Model, got 3"),
        ({"betas": [1.0]}, "betas: wanted tuple[float, float], got [1.0]"),
        ({"sizes": [1, "a"]}, "sizes[1]: wanted int, got 'a'"),
        ({"stages": [{"steps": 1, "nam": ""}]}, "stages[0].nam: no such field; did you mean 'stages[0].name'?"),
        ({"schedule": {"warmup": 1}}, "schedule.peak: missing; pass defaults=True to fill in the field's default"),
    ],
)
def test_from_json_names_the_path_of_nested_bad_data(change, message):
    with refuses(message):
        from_json(Experiment, to_json(BASE) | change)


def test_from_json_refuses_data_that_is_no_object():
    with refuses("config: wanted Schedule, got [1]"):
        from_json(Schedule, [1])


def test_from_json_refuses_a_class_that_is_no_dataclass():
    with refuses("cls: wanted a dataclass, got <class 'int'>"):
        from_json(int, {})


def test_a_missing_key_is_refused():
    with refuses("peak: missing; pass defaults=True to fill in the field's default"):
        from_json(Schedule, {"warmup": 1})


def test_a_missing_key_takes_its_default_on_request_at_any_depth():
    data = {"name": "x", "schedule": {"warmup": 1}, "stages": [{"steps": 1}]}
    expected = Experiment(name="x", schedule=Schedule(warmup=1), stages=(Stage(1),))
    assert from_json(Experiment, data, defaults=True) == expected


def test_a_missing_key_without_default_is_refused_even_with_defaults():
    with refuses("steps: missing, and the field has no default"):
        from_json(Stage, {"name": "x"}, defaults=True)


def test_an_unknown_key_is_refused_even_with_defaults():
    with refuses("warmpu: no such field; did you mean 'warmup'?"):
        from_json(Schedule, {"warmpu": 1}, defaults=True)


def test_from_json_runs_post_init():
    with refuses("heads must divide width 8, got 3"):
        from_json(Model, to_json(Model()) | {"heads": 3})


FLOATS = st.floats(allow_nan=False)
NAMES = st.text("abcdefg_", min_size=1, max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text()
LEAVES = SCALARS | st.lists(SCALARS, max_size=3).map(tuple)
MODELS = st.builds(
    Model,
    layers=st.integers(),
    bias=st.booleans(),
    mixer=st.sampled_from(["lru", "mamba", "para_rnn"]),
    dropout=st.none() | FLOATS,
    options=st.dictionaries(NAMES, st.dictionaries(NAMES, LEAVES, max_size=3), max_size=3),
    width=st.just(8),
    heads=st.sampled_from([1, 2, 4]),
)
STAGES = st.builds(Stage, steps=st.integers(), name=st.text())
EXPERIMENTS = st.builds(
    Experiment,
    name=st.text(),
    tag=st.none() | st.text(),
    model=MODELS,
    schedule=st.none() | st.builds(Schedule, warmup=st.integers(), peak=FLOATS),
    stages=st.lists(STAGES, max_size=2).map(tuple),
    betas=st.tuples(FLOATS, FLOATS),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    words=st.lists(st.text(), max_size=3).map(tuple),
    grid=st.lists(st.tuples(st.integers(), st.integers()), max_size=2).map(tuple),
    limit=st.integers() | st.just("auto"),
    scale=FLOATS | st.text(),
)

few = settings(max_examples=30, deadline=None, derandomize=True)


@few
@given(EXPERIMENTS)
def test_any_config_comes_back_from_json_text(config):
    assert repr(from_json(Experiment, through_text(config))) == repr(config)


VALUES = {
    "model.layers": st.integers(),
    "model.bias": st.booleans(),
    "model.mixer": st.sampled_from(["lru", "mamba", "para_rnn"]),
    "model.dropout": st.none() | FLOATS,
    "name": st.text().filter(lambda text: text[:1] != text[-1:] or text[:1] not in ("'", '"')),
    "betas": st.tuples(FLOATS, FLOATS),
    "sizes": st.lists(st.integers(), max_size=4).map(tuple),
    "words": st.lists(st.text(), max_size=4).map(tuple),
    "grid": st.lists(st.tuples(st.integers(), st.integers()), max_size=3).map(tuple),
}


@few
@given(st.sampled_from(sorted(VALUES)).flatmap(lambda path: st.tuples(st.just(path), VALUES[path])))
def test_the_text_of_any_value_is_read_as_that_value(case):
    path, value = case
    config = set_one(f"{path}={value}")
    *parents, last = path.split(".")
    assert repr(getattr(config.model if parents else config, last)) == repr(value)


@few
@given(st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.tuples(st.integers(), st.text()))
def test_the_repr_of_any_leaf_is_read_as_that_leaf(value: Leaf):
    options = set_one(f"model.options.lru.key={value!r}").model.options
    assert repr(options["lru"]["key"]) == repr(value)


# ---- diff


def test_equal_configs_have_no_differences():
    assert diff(FULL, from_json(Experiment, to_json(FULL))) == []


def test_differences_come_in_field_order():
    changed = override(BASE, ["sizes=1", "name=x", "model.heads=1", "model.layers=3"])
    assert diff(BASE, changed) == [
        ("name", "run", "x"),
        ("model.layers", 2, 3),
        ("model.heads", 2, 1),
        ("sizes", (), (1,)),
    ]


def test_a_key_that_one_dict_lacks_is_absent():
    a, b = Model(options={"lru": {"x": 1, "y": 2}}), Model(options={"lru": {"y": 3, "z": 4}, "mamba": {}})
    assert diff(a, b) == [
        ("options.lru.x", 1, ABSENT),
        ("options.lru.y", 2, 3),
        ("options.lru.z", ABSENT, 4),
        ("options.mamba", ABSENT, {}),
    ]


def test_an_empty_dict_is_no_difference_beside_its_missing_keys():
    assert diff(Model(), Model(options={"lru": {"x": 1}})) == [("options.lru.x", ABSENT, 1)]


def test_an_empty_dict_is_no_difference_in_the_other_order_either():
    assert diff(Model(options={"lru": {"x": 1}}), Model()) == [("options.lru.x", 1, ABSENT)]


def test_diff_refuses_a_wrong_type():
    with refuses("warmup: wanted int, got 'x'"):
        diff(Schedule(), Schedule(warmup="x"))  # type: ignore[arg-type]


def test_none_against_a_dataclass_lists_its_fields():
    assert diff(BASE, Experiment(schedule=Schedule())) == [
        ("schedule", None, ABSENT),
        ("schedule.warmup", ABSENT, 10),
        ("schedule.peak", ABSENT, 1e-3),
    ]


def test_a_missing_value_prints_as_absent():
    assert repr(ABSENT) == "(absent)"


@pytest.mark.parametrize(("a", "b"), [(True, 1), ((True,), (1,))])
def test_true_differs_from_one(a, b):
    a, b = Model(options={"lru": {"x": a}}), Model(options={"lru": {"x": b}})
    assert [path for path, _, _ in diff(a, b)] == ["options.lru.x"]


def test_configs_of_different_classes_are_not_compared():
    with refuses("diff: wanted two configs of one class, got Schedule and Stage"):
        diff(Schedule(), Stage(1))


# ---- config files

GOOD = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Local:
    x: int | None = 1

def get_config() -> Local:
    return Local()
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "small.py") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_load_config_returns_the_config(write):
    assert to_json(load_config(write(GOOD))) == {"x": 1}


def test_a_loaded_config_can_be_overridden_with_types_of_its_own_file(write):
    assert set_one("x=none", load_config(write(GOOD))).x is None


def test_load_config_reads_the_file_as_it_is_now(write):
    load_config(write(GOOD))
    assert load_config(write(GOOD.replace("= 1", "= 2"))).x == 2


def test_load_config_leaves_sys_path_and_the_folder_as_they_were(write, tmp_path):
    before = list(sys.path)
    load_config(write(GOOD))
    assert (sys.path, [path.name for path in tmp_path.iterdir()]) == (before, ["small.py"])


def test_the_module_of_a_config_shadows_no_other(write):
    import json as before

    load_config(write(GOOD, "json.py"))
    assert sys.modules["json"] is before


def test_a_missing_file_is_refused():
    with pytest.raises(FileNotFoundError, match=r"^configs/nowhere\.py: no such config file$"):
        load_config("configs/nowhere.py")


def test_a_file_of_another_kind_is_refused(write):
    path = write("{}", "small.json")
    with refuses(f"{path}: wanted a .py file"):
        load_config(path)


@pytest.mark.parametrize("text", ["x = 1", "get_config = 3"])
def test_a_file_without_get_config_is_refused(write, text):
    path = write(text)
    with refuses(f"{path}: defines no get_config()"):
        load_config(path)


def test_a_syntax_error_names_file_and_line(write):
    path = write("x = 1\ny = = 2\n")
    with refuses(f"{path}:2: SyntaxError: invalid syntax"):
        load_config(path)


def test_an_exception_in_the_file_names_file_and_line(write):
    path = write("def half(x):\n    return x / 0\n\nhalf(1)\n")
    with refuses(f"{path}:2: ZeroDivisionError: division by zero"):
        load_config(path)


def test_an_exception_in_get_config_names_the_line_in_the_file_and_keeps_the_cause(write):
    path = write("import json\ndef get_config():\n    return json.loads('[')\n")
    with pytest.raises(ValueError, match=f"^{re.escape(path)}:3: JSONDecodeError: ") as caught:
        load_config(path)
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)


def test_a_message_of_several_lines_becomes_one(write):
    path = write("raise RuntimeError('a\\n  b')")
    with refuses(f"{path}:1: RuntimeError: a b"):
        load_config(path)


@pytest.mark.parametrize(("result", "shown"), [("{'a': 1}", "{'a': 1}"), ("None", "None"), ("int", "<class 'int'>")])
def test_a_result_that_is_no_dataclass_is_refused(write, result, shown):
    path = write(f"def get_config():\n    return {result}\n")
    with refuses(f"{path}: get_config() returned a bad config: config: wanted a dataclass instance, got {shown}"):
        load_config(path)


def test_a_result_with_a_wrong_type_is_refused(write):
    path = write(GOOD.replace("Local()", "Local('a')"))
    with refuses(f"{path}: get_config() returned a bad config: x: wanted int or None, got 'a'"):
        load_config(path)
