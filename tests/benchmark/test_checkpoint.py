"""What the benchmark of checkpoints reads from a run's log."""

import json

import pytest

from jaxseq.benchmark.checkpoint import CONFIG, EVERY, _held_up, _rows
from jaxseq.config import load_config

LOG = [
    {"step": 1, "tokens_per_second": 10.0},
    {"step": 100, "tokens_per_second": 20.0},
    {"step": 110, "tokens_per_second": 40.0, "save_seconds": 3.0},
    {"step": 210, "tokens_per_second": 20.0, "save_seconds": 0.5},
]


def test_saves_are_set_beside_as_many_seconds_as_100_steps_take():
    data = load_config(CONFIG).data
    found = _held_up(LOG)
    assert (found["first_save"], found["second_save"]) == (3.0, 0.5)
    assert found["steps"] == pytest.approx(EVERY * data.batch * data.length / 20.0)


def test_a_row_that_is_being_written_is_left_for_later(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LOG) + '{"step": 3')
    assert _rows(str(tmp_path)) == LOG
