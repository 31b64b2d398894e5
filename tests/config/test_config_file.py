"""Reading a config from its file."""

from __future__ import annotations

import json
import re
import sys

import pytest

from jaxseq.config import load_config, to_json
from tests.config.sample import refuses, set_one

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
