"""To JSON and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseq.config import Leaf, from_json, to_json
from tests.config.sample import BASE, FULL, Experiment, Model, Schedule, Stage, refuses, set_one


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
