"""A run that is cut off goes on as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import time

import pytest

from tests.e2e.conftest import command, environment, losses, run, small_flags, tiny, train


def start(*flags):
    return subprocess.Popen(
        command("train", *flags), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for_step(process, workdir, step):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        metrics = workdir / "metrics.jsonl"
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.005)
    raise TimeoutError(f"step {step} was not logged")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus):
    """The losses of 150 uninterrupted steps."""
    workdir = tmp_path_factory.mktemp("whole")
    done = run("train", f"--workdir={workdir}", *small_flags(corpus, steps=150, save_every=0, sample_tokens=0))
    assert done.returncode == 0, done.stderr
    return losses(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("step", [37])
def test_after_kill_9_the_losses_are_bit_identical(whole, corpus, tmp_path, step):
    flags = [f"--workdir={tmp_path}", *small_flags(corpus, steps=150, save_every=7, sample_tokens=0)]
    process = start(*flags)
    wait_for_step(process, tmp_path, step)
    process.kill()
    process.communicate()
    assert max(losses(tmp_path)) < 150, "the run was over before it was killed"
    done = run("train", *flags)
    assert done.returncode == 0, done.stderr
    assert "resuming from the checkpoint of step" in done.stdout
    assert losses(tmp_path) == whole


def test_sigterm_saves_and_says_how_to_go_on(whole, corpus, tmp_path):
    flags = [f"--workdir={tmp_path}", *small_flags(corpus, steps=150, save_every=0, sample_tokens=0)]
    process = start(*flags)
    wait_for_step(process, tmp_path, 9)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    assert "SIGTERM: stopped at step" in output
    assert "the same command goes on from there" in output
    stopped = max(losses(tmp_path))
    assert (tmp_path / "checkpoints" / str(stopped)).is_dir()
    done = run("train", *flags)
    assert f"resuming from the checkpoint of step {stopped}" in done.stdout
    assert losses(tmp_path) == whole


def test_a_second_start_says_that_the_run_is_complete(trained, corpus, capsys):
    before = (trained / "metrics.jsonl").read_bytes()
    result = train(tiny(corpus), str(trained))
    assert "this run is complete: 6 steps" in capsys.readouterr().out
    assert result is not None
    assert result["step"] == 6
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_a_run_from_before_a_field_was_added_is_read_with_its_default(trained, corpus, tmp_path):
    copied = shutil.copytree(trained, tmp_path / "run")
    older = json.loads((copied / "config.json").read_text())
    del older["model"]["post_norm"], older["train"]["ema"]
    (copied / "config.json").write_text(json.dumps(older))
    result = train(tiny(corpus), str(copied))
    assert result is not None
    assert result["step"] == 6


@pytest.mark.slow
def test_more_steps_go_on_and_the_change_is_shown(corpus, tmp_path, capsys):
    train(tiny(corpus, steps=2), str(tmp_path))
    train(tiny(corpus, steps=4), str(tmp_path))
    output = capsys.readouterr().out
    assert "changed: train.steps: 2 -> 4" in output
    assert list(losses(tmp_path)) == [1, 2, 3, 4]
