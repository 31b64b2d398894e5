"""How the text of a value is read."""

from __future__ import annotations

import math
import re

import pytest

from tests.config.sample import Experiment, Model, refuses, set_one


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
