"""What differs between two configs."""

from __future__ import annotations

import pytest

from jaxseq.config import ABSENT, diff, from_json, override, to_json
from tests.config.sample import BASE, FULL, Experiment, Model, Schedule, Stage, refuses


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
