"""The launch scripts on a finished run."""

import json
import shutil

import pytest

from tests.e2e.conftest import rows, run, small_flags, tiny, train


def test_generate_streams_a_continuation_of_the_prompt(trained):
    done = run("generate", f"--workdir={trained}", "--prompt=def ", "--max_tokens=12", "--temperature=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("def ")
    assert len(done.stdout) > len("def ")


@pytest.mark.slow
def test_a_prompt_is_answered_alike_alone_and_in_a_batch(trained):
    flags = [f"--workdir={trained}", "--max_tokens=12", "--seed=3", "--prompt=self"]
    alone = run("generate", *flags).stdout.rstrip("\n")
    both = run("generate", *flags, "--prompt=return x").stdout
    assert alone in both


def test_evaluate_agrees_with_the_result_of_the_run(trained):
    done = run("evaluate", f"--workdir={trained}")
    result = json.loads((trained / "result.json").read_text())
    assert done.returncode == 0, done.stderr
    printed = float(done.stdout.split(" bits per byte")[0].split()[-1])
    assert printed == pytest.approx(result["validation_bits_per_byte"], abs=1e-3)


def test_evaluate_refuses_data_that_changed(trained, tmp_path):
    copied = shutil.copytree(trained, tmp_path / "run")
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["splits"]["validation"]["sha256"] = "0"
    (copied / "manifest.json").write_text(json.dumps(manifest))
    done = run("evaluate", f"--workdir={copied}")
    assert done.returncode == 1
    assert "the validation split" in done.stderr
    assert "has changed since the run" in done.stderr


def test_diff_is_silent_on_a_run_and_itself_and_exits_with_0(trained):
    done = run("diff", str(trained), str(trained))
    assert (done.returncode, done.stdout.strip()) == (0, "no difference")


def test_diff_shows_parameters_that_moved_between_two_checkpoints(trained):
    folder = trained / "checkpoints"
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    done = run("diff", str(folder / str(steps[0])), str(folder / str(steps[-1])))
    assert done.returncode == 1
    assert "parameter embedding: largest difference" in done.stdout


def test_diff_of_a_missing_run_exits_with_2(trained, tmp_path):
    done = run("diff", str(trained), str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_a_run_leaves_config_manifest_versions_metrics_picture_and_result(trained):
    names = {path.name for path in trained.iterdir()}
    wanted = {
        "config.json",
        "manifest.json",
        "versions.json",
        "metrics.jsonl",
        "checkpoints",
        "loss.png",
        "result.json",
    }
    assert wanted | {"loss.png", "result.json"} <= names
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_every_metrics_row_has_what_it_is_read_for(trained):
    for step, row in rows(trained).items():
        assert row["step"] == step
        assert {"loss", "bits_per_byte", "grad_norm", "learning_rate", "tokens_per_second"} <= row.keys()
        assert row["converged"] == 1
        assert row["iterations"] >= 1


@pytest.mark.slow
def test_tensorboard_writes_events(corpus, tmp_path):
    train(tiny(corpus, steps=1, tensorboard=True), str(tmp_path))
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.slow
def test_steps_that_are_profiled_are_in_a_trace(corpus, tmp_path):
    # In a process of its own: jaxlib's profiler crashes where a test before has loaded another version's libtpu.
    done = run("train", *small_flags(corpus, steps=6), f"--workdir={tmp_path}", "--profile=2:4")
    assert done.returncode == 0, done.stderr
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0


@pytest.mark.slow
def test_trace_prints_a_row_for_each_layer_and_draws_it(trained, tmp_path):
    copied = shutil.copytree(trained, tmp_path / "run")
    done = run("trace", f"--workdir={copied}", "--iterations=4")
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["layer"], row["cell"], len(row["residual"])) == (0, "para_gru", 4)
    assert row["exact_prefix"][-1] == row["length"] == 32
    assert (copied / "trace.png").read_bytes().startswith(b"\x89PNG")
