"""The scripts that start a run on a pod: they parse, and a dry run shows a command that launch/train.py understands."""

import shutil
import subprocess
from pathlib import Path

import pytest

POD = Path(__file__).parents[2] / "launch" / "pod"
SCRIPTS = sorted(POD.glob("*.sh"))
TRAIN = ["--config=configs/quickstart.py", "--workdir=/runs/x", "--set=model.pattern=lru attention"]
OPTIONS = {
    "tpu_vm": ["--name=slice", "--zone=us-central2-b"],
    "slurm": ["--nodes=4", "--gpus=8"],
    "jobset": [
        "--name=x",
        "--image=registry/jaxseq",
        "--accelerator=tpu-v5-lite-podslice",
        "--topology=4x4",
        "--hosts=4",
        "--claim=runs",
    ],
}


def run(script, *flags):
    return subprocess.run(["bash", str(script), *flags], capture_output=True, text=True, timeout=60)


def dry_run(name):
    done = run(POD / f"{name}.sh", *OPTIONS[name], "--dry-run", "--", *TRAIN)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_parses(script):
    assert run("-n", str(script)).returncode == 0
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_without_options_it_says_how_to_use_it(script):
    done = run(script)
    assert done.returncode == 2
    assert f"launch/pod/{script.name} --" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_unknown_option_is_refused(script):
    done = run(script, "--nmae=x")
    assert done.returncode == 2
    assert done.stderr == "error: unknown option --nmae=x\n"


def test_on_a_tpu_vm_every_worker_reads_its_place_from_the_metadata(tmp_path):
    """The remote command runs here, with a curl and a python that stand for those of the second of two workers."""
    shown = dry_run("tpu_vm").splitlines()[1:]
    fake = tmp_path / "fake"
    fake.mkdir()
    answers = 'case "$*" in *endpoints) echo unknown:a:10.0.0.1,unknown:b:10.0.0.2 ;; *number) echo 1 ;; esac'
    (tmp_path / "jaxseq" / ".venv" / "bin").mkdir(parents=True)
    programs = {
        fake / "curl": answers,
        fake / "gcloud": 'cd "$PLACE"; bash -c "${!##--command=}"',
        tmp_path / "jaxseq" / ".venv" / "bin" / "python": "printf '%s\\n' \"$@\"",
    }
    for path, text in programs.items():
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    environment = {"PATH": f"{fake}:/usr/bin:/bin", "PLACE": str(tmp_path)}
    done = subprocess.run(["bash", "-c", "\n".join(shown)], env=environment, capture_output=True, text=True)
    place = ["--coordinator=10.0.0.1:8476", "--processes=2", "--process=1"]
    assert done.stdout.splitlines() == ["launch/train.py", *place, *TRAIN], done.stderr


def test_the_slurm_job_starts_one_process_per_node_and_is_queued_again(tmp_path):
    job = dry_run("slurm").split("\n", 1)[1]
    assert "#SBATCH --requeue --signal=TERM@120" in job
    fake = tmp_path / "bin"
    fake.mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    programs = {
        fake / "scontrol": 'case "$1" in show) printf "node1\\nnode2\\n" ;; *) echo "$@" ;; esac',
        fake / "srun": 'shift; SLURM_NTASKS=4 SLURM_PROCID=3 "$@"',
        tmp_path / ".venv" / "bin" / "python": "printf '%s\\n' \"$@\"; exit 1",
    }
    for path, text in programs.items():
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    environment = {"PATH": f"{fake}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]"}
    done = subprocess.run(["bash", "-c", job], env=environment, cwd=tmp_path, capture_output=True, text=True)
    place = ["--coordinator=node1:20007", "--processes=4", "--process=3"]
    assert done.stdout.splitlines() == ["launch/train.py", *place, *TRAIN, "requeue 7"], done.stderr


def test_the_jobset_has_all_options_filled_in():
    manifest = dry_run("jobset")
    assert "value: x-train-0-0.x:8476" in manifest
    assert 'value: "4"' in manifest
    flags = ", ".join(f'"{flag}"' for flag in TRAIN)
    assert f"command: [python, launch/train.py, {flags}]" in manifest
    for word in ("NAME:", "HOSTS", "IMAGE", "TOPOLOGY", "ACCELERATOR", "CHIPS", "CLAIM", "FLAGS"):
        assert word not in manifest, word
