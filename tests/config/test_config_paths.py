"""Which fields an assignment changes, and which it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxseq.config import override
from tests.config.sample import BASE, Experiment, Model, Schedule, refuses, set_one


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
