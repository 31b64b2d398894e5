"""A tiny experiment on a made-up text, and the launch scripts as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig
from jaxseq.train import run as training
from tests.flags import QUICK

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "model.width": 16,
    "data.piece_bytes": 1024,
    "data.length": 32,
    "data.batch": 8,
    "train.sample_tokens": 8,
    "train.eval_every": 0,
    "train.log_every": 1,
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A text file of 60 kB: random words."""
    words = ["def", "return", "self", "x", "y", "(", ")", ":", "=", "+", "\n"]
    path = tmp_path_factory.mktemp("corpus") / "words.txt"
    path.write_text(" ".join(np.random.default_rng(0).choice(words, 20_000)))
    return path


def tiny(source, **train_fields):
    """An experiment that trains in a second."""
    fields = {"steps": 6, "save_every": 2, "log_every": 1, "sample_tokens": 0} | train_fields
    return Experiment(
        model=ModelConfig(width=16, layers=1),
        data=DataConfig(source=str(source), piece_bytes=1024, length=32, batch=8),
        optim=OptimConfig(warmup=2),
        train=TrainConfig(**fields),
    )


def train(config, workdir, profile=None):
    """On one device: eight make every program larger, and have tests of their own."""
    return training.train(config, workdir, profile, jax.devices()[:1])


def command(script, *flags):
    """The command line of a launch script."""
    return [sys.executable, str(ROOT / "launch" / f"{script}.py"), *flags]


def small_flags(source, **fields):
    """--config and --set flags of the quickstart, made small."""
    values = SMALL | {"data.source": source} | {f"train.{name}": value for name, value in fields.items()}
    return [f"--config={ROOT / 'configs' / 'quickstart.py'}", *(f"--set={k}={v}" for k, v in values.items())]


def environment():
    """One CPU device, whatever the tests themselves use."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "PYTHONPATH": str(ROOT)}


def run(script, *flags):
    """Runs a launch script to its end; stdout and stderr are text."""
    return subprocess.run(command(script, *flags), env=environment(), capture_output=True, text=True, timeout=240)


def rows(workdir):
    """metrics.jsonl as a dict by step."""
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row for row in map(json.loads, lines)}


def losses(workdir):
    """The loss of every logged step."""
    return {step: row["loss"] for step, row in rows(workdir).items()}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, corpus):
    """A finished run of 6 steps, saved at 2, 4 and 6. Copy it before you change it."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    train(tiny(corpus), str(workdir))
    return workdir
