"""What a user gets wrong is one clear line, and nothing of an earlier run is touched."""

import builtins
import shutil
from dataclasses import replace

import pytest

from tests.e2e.conftest import run, small_flags, tiny, train, training


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_another_config_is_refused_with_the_difference(copied, corpus):
    config = tiny(corpus)
    other = replace(config, optim=replace(config.optim, learning_rate=0.5))
    with pytest.raises(ValueError, match=r"another config \(optim.learning_rate: 0.003 -> 0.5\): choose another"):
        train(other, str(copied))


def test_other_data_are_refused(copied, corpus, tmp_path, trained):
    changed = tmp_path / "changed.txt"
    changed.write_text(corpus.read_text() + "x")
    with pytest.raises(ValueError, match=r"another config \(data.source"):
        train(tiny(changed), str(copied))


def test_a_changed_file_of_the_same_name_is_refused(tmp_path, corpus):
    source = shutil.copy(corpus, tmp_path / "text.txt")
    train(tiny(source, steps=1), str(tmp_path / "run"))
    source.write_text(corpus.read_text() + "x")
    with pytest.raises(ValueError, match="was trained on other data"):
        train(tiny(source, steps=2), str(tmp_path / "run"))


def test_checkpoints_of_an_unknown_run_are_refused(copied, corpus):
    (copied / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has checkpoints but no config\.json"):
        train(tiny(corpus), str(copied))


def test_a_workdir_that_is_a_file_is_refused(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="there is a file of that name"):
        train(tiny(corpus), str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"caf\xe9 " * 2000, "not UTF-8"),
        (b"one small document", "data.piece_bytes"),
    ],
    ids=["empty", "latin-1", "too small"],
)
def test_unusable_data_are_refused(tmp_path, content, message):
    source = tmp_path / "text.txt"
    source.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message):
        train(tiny(source), str(tmp_path / "run"))


def test_missing_data_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(tiny(tmp_path / "nowhere"), str(tmp_path / "run"))


def test_unreadable_data_are_refused(tmp_path, corpus, monkeypatch):
    genuine = builtins.open

    def denied(path, *args, **kwargs):
        if str(path) == str(corpus):
            raise PermissionError(13, "Permission denied", str(path))
        return genuine(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", denied)
    with pytest.raises(PermissionError, match="ermission"):
        train(tiny(corpus), str(tmp_path / "run"))


def test_rows_that_do_not_divide_over_the_devices_are_refused(corpus, tmp_path):
    config = tiny(corpus, accumulate=4)
    with pytest.raises(ValueError, match=r"data.batch / train.accumulate = 2 rows must divide over data x fsdp = 8"):
        training.train(config, str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "nope"}, "cell must be one of antisymmetric_rnn, atr"),
        ({"clip": "x"}, 'clip must be a number, None or "cell"'),
        ({"clip": -1.0}, "clip must be positive"),
        ({"heads": 3}, "heads = 3 must divide"),
    ],
)
def test_a_refused_model_leaves_no_workdir_behind(corpus, tmp_path, options, message):
    config = tiny(corpus)
    config = replace(config, model=replace(config.model, options={"para_rnn": options}))
    with pytest.raises(ValueError, match=message):
        train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("train", ["--set=model.widht=3"], "did you mean 'model.width'?"),
        ("train", ["--config=/nowhere.py"], "/nowhere.py: no such config file"),
        ("train", ["--set=model.vocab=100"], "model.vocab must be at least the tokenizer's 257, got 100"),
        ("generate", ["--prompt=x"], "not a workdir"),
        ("evaluate", [], "not a workdir"),
    ],
)
def test_a_script_prints_one_line_and_exits_with_1(corpus, tmp_path, script, flags, message):
    config = small_flags(corpus) if script == "train" else []
    done = run(script, f"--workdir={tmp_path}", *config, *flags)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_debug_shows_the_traceback(corpus, tmp_path):
    done = run("train", f"--workdir={tmp_path}", *small_flags(corpus), "--set=model.widht=3", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_unknown_flag_is_named_with_a_suggestion(corpus):
    done = run("train", "--wrokdir=x", *small_flags(corpus))
    assert done.returncode == 1
    assert "Unknown command line flag 'wrokdir'. Did you mean: workdir" in done.stderr
    assert "Traceback" not in done.stderr
