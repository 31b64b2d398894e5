"""The folder of a run: its files are whole, and a resumed run's metrics go on where its checkpoint is."""

import json

import pytest

from jaxseq.experiment import Experiment, TrainConfig
from jaxseq.train.workdir import Workdir


@pytest.fixture
def folder(tmp_path):
    return Workdir(tmp_path / "run")


def test_a_fresh_folder_is_claimed_with_config_manifest_and_versions(folder):
    assert folder.claim(Experiment(), {"source": "x"}) == []
    assert {p.name for p in folder.path.iterdir()} == {"config.json", "manifest.json", "versions.json"}
    assert {"python", "jax", "flax", "orbax-checkpoint"} <= folder.read("versions.json").keys()


def test_resumable_fields_may_change_and_are_told(folder):
    folder.claim(Experiment(), {})
    assert folder.claim(Experiment(train=TrainConfig(log_every=3)), {}) == ["train.log_every: 10 -> 3"]


def test_other_fields_may_not(folder):
    folder.claim(Experiment(), {})
    with pytest.raises(ValueError, match=r"another config \(train.seed: 0 -> 3\)"):
        folder.claim(Experiment(train=TrainConfig(seed=3)), {})


def test_a_config_that_is_no_json_is_named(folder):
    folder.claim(Experiment(), {})
    (folder.path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON"):
        folder.claim(Experiment(), {})


def test_rewinding_drops_later_steps_and_a_line_cut_short(folder):
    for step in range(1, 6):
        folder.log({"step": step})
    with folder.metrics.open("a") as file:
        file.write('{"step": 2, "lo')
    folder.rewind(3)
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [1, 2, 3]


def test_writing_leaves_no_temporary_file(folder):
    folder.write("a.json", [1])
    assert [p.name for p in folder.path.iterdir()] == ["a.json"]
    assert folder.read("a.json") == [1]
    assert folder.read("b.json") is None
