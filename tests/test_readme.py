"""The README's code runs, and its commands exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_cell_of_your_own_runs_as_printed(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "(4, 1000, 16)" in capsys.readouterr().out


def test_every_script_it_names_exists():
    named = set(re.findall(r"launch/\w+\.py|configs/\w+\.py", README))
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_every_mixer_has_a_row():
    from jaxseq.mixers import MIXERS

    assert {name for name in MIXERS if f"| `{name}` |" not in README} == set()


def test_no_placeholder_is_left():
    assert "@@" not in README
