"""Several real processes train as one: the same losses, one end, one line about what went wrong."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from jaxseq.config import load_config, override
from jaxseq.train import train
from jaxseq.train.rehearsal import LAUNCH, TINY, TOLERANCE, Processes, deviation, rehearse, rows
from tests.flags import QUICK

CONFIG = LAUNCH.parents[1] / "configs" / "quickstart.py"
STEPS = 120


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two sources that are mixed, as text for data.source: 60 kB of random words, and short documents to be packed."""
    words = ["def", "return", "self", "x", "y", "(", ")", ":", "=", "+", "\n"]
    drawn, folder = np.random.default_rng(0).choice(words, 30_000), tmp_path_factory.mktemp("corpus")
    (folder / "words.txt").write_text(" ".join(drawn[:20_000]))
    documents = [json.dumps({"text": " ".join(part)}) for part in drawn[20_000:].reshape(-1, 5)]
    (folder / "short.jsonl").write_text("\n".join(documents))
    return f'("{folder}/words.txt", "{folder}/short.jsonl")'


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """The workdir of an uninterrupted run in this process, over its 8 devices."""
    workdir = tmp_path_factory.mktemp("whole")
    here(corpus, workdir)
    return workdir


def settings_of(corpus):
    tiny = [text for text in TINY if not text.startswith("train.eval_every")]
    mixed = [f"data.source={corpus}", "data.weights=(2.0, 1.0)"]
    return [*tiny, *mixed, f"train.steps={STEPS}", "train.save_every=20", "train.eval_every=60"]


def here(corpus, workdir):
    train(override(load_config(CONFIG), settings_of(corpus)), str(workdir))


@pytest.fixture
def start(corpus, tmp_path, monkeypatch):
    """start(processes, devices, *flags) runs launch/train.py; none of the processes outlives the test."""
    started = []
    monkeypatch.setenv("XLA_FLAGS", QUICK)

    def run(processes, devices, *flags):
        given = [f"--config={CONFIG}", f"--workdir={tmp_path / 'run'}", "--start_timeout=120"]
        given += [f"--set={text}" for text in settings_of(corpus)]
        started.append(Processes(processes, devices, [*given, *flags], tmp_path / f"logs{len(started)}"))
        return started[-1]

    yield run
    for each in started:
        each.__exit__()


def last(workdir: Path):
    return max(rows(workdir), default=0)


@pytest.mark.slow
def test_two_processes_give_the_losses_evaluations_and_batches_of_one(whole, start, tmp_path):
    running = start(2, 4)
    assert running.wait() == [0, 0], running.said(0)
    assert deviation(tmp_path / "run", whole) <= TOLERANCE
    ours, theirs = ({s: r["validation_bits_per_byte"] for s, r in rows(w).items() if s % 60 == 0}
                    for w in (tmp_path / "run", whole))  # fmt: skip
    assert ours == pytest.approx(theirs, rel=TOLERANCE)
    assert running.said(1, "out").replace("[Gloo]", "").count("step") == 0, "process 0 alone reports"


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_after_the_same_step_and_one_process_goes_on(whole, start, corpus, tmp_path):
    running, workdir = start(2, 4), tmp_path / "run"
    running.until(lambda: last(workdir) >= 1)
    running.send(1, signal.SIGTERM)
    assert running.wait() == [0, 0], running.said(0)
    stopped = last(workdir)
    assert stopped < STEPS
    line = f"SIGTERM to one of 2 processes: stopped at step {stopped} and saved; the same command goes on from there"
    assert line in running.said(0, "out")
    assert (workdir / "checkpoints" / str(stopped)).is_dir()
    here(corpus, workdir)
    assert deviation(workdir, whole) <= TOLERANCE


@pytest.mark.slow
def test_after_kill_9_of_one_process_the_other_ends_in_one_line_and_both_go_on(whole, start, tmp_path):
    running, workdir = start(2, 1), tmp_path / "run"
    running.until(lambda: (workdir / "checkpoints" / "20").is_dir())
    running.send(1, signal.SIGKILL)
    assert running.wait(60) == [1, -signal.SIGKILL]
    lines = running.said(0).splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: process 1 of 2 was lost (")
    assert "; the last checkpoint is of step " in lines[0]
    assert lines[0].endswith(": the same command goes on from there")
    again = start(2, 4)
    assert again.wait() == [0, 0], again.said(0)
    assert deviation(workdir, whole) <= TOLERANCE


def test_a_missing_process_is_one_line(start):
    running = start(2, 1, "--start_timeout=2")
    running.send(1, signal.SIGKILL)
    assert running.wait()[0] == 1
    assert "error: 1 of 2 processes came to 127.0.0.1:" in running.said(0)
    assert "missing: 1" in running.said(0)
    assert len(running.said(0).splitlines()) == 1, running.said(0)


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_line_of_process_0(start):
    running = start(2, 1, "--set=model.widht=3")
    assert running.wait() == [1, 1]
    assert "did you mean 'model.width'" in running.said(0)
    assert len(running.said(0).splitlines()) == 1, running.said(0)
    assert running.said(1) == ""


@pytest.mark.slow
def test_losing_process_0_ends_the_others(start, tmp_path):
    running, workdir = start(2, 1), tmp_path / "run"
    running.until(lambda: (workdir / "checkpoints" / "20").is_dir())
    running.send(0, signal.SIGKILL)
    assert running.wait(60)[1] not in (0, None)
    assert "process 0 of 2 was lost" in running.said(1)


@pytest.mark.slow
def test_a_silent_process_is_lost_too(start, tmp_path):
    running, workdir = start(2, 1), tmp_path / "run"
    running.until(lambda: (workdir / "checkpoints" / "20").is_dir())
    running.send(1, signal.SIGSTOP)
    with pytest.raises(TimeoutError, match="process 0 ended early"):
        running.until(lambda: False, timeout=180)
    assert "process 1 of 2 was lost (silent for 60 s)" in running.said(0)


@pytest.mark.slow
def test_two_processes_that_were_stopped_go_on_bit_identically(start, tmp_path):
    running, workdir = start(2, 1), tmp_path / "run"
    running.until(lambda: last(workdir) >= 1)
    running.send(0, signal.SIGTERM)
    assert running.wait() == [0, 0], running.said(0)
    assert start(2, 1).wait() == [0, 0]
    interrupted = rows(workdir)
    workdir.rename(tmp_path / "interrupted")
    assert start(2, 1).wait() == [0, 0]
    assert {s: r["loss"] for s, r in interrupted.items()} == {s: r["loss"] for s, r in rows(workdir).items()}


@pytest.mark.slow
def test_the_rehearsal_of_a_pod_succeeds(corpus, tmp_path):
    lines: list[str] = []
    rehearse(tmp_path, corpus, 300, lines.append)
    assert len(lines) == 5
    assert lines[-1].startswith("all 300 batch fingerprints agree with the uninterrupted run")


def test_no_process_is_left_behind(tmp_path):
    script = tmp_path / "sleep.py"
    script.write_text("import time\ntime.sleep(600)\n")
    with Processes(2, 1, [], tmp_path / "logs", script) as running:
        pids = [process.pid for process in running._running]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
