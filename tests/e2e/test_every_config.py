"""Every config of a mixer, at a size for two cores: twenty steps, and the loss falls."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxseq.config import load_config
from jaxseq.experiment import DataConfig, TrainConfig
from tests.e2e.conftest import train
from tests.mixers.cases import OPTIONS, WIDTH

ROOT = Path(__file__).parent.parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
OWN = {"quickstart", "parity"}  # have runs of their own
LARGER = ("_1b", "_7b")  # are the same model at this size
DATA = DataConfig(source=str(ROOT / "jaxseq" / "ops" / "*.py"), length=32, batch=8)


def small(experiment):
    """The same block styles with the mixers of the contract suite."""
    model = experiment.model
    options = {name: OPTIONS[name][0] for name in set(model.pattern) if name in OPTIONS}
    few = 2 * len(model.pattern) if len(model.pattern) <= 4 else len(model.pattern)
    model = replace(
        model, vocab=264, width=WIDTH, layers=few, options=options, mlp_width=model.hidden and 24, dtype="float32"
    )
    return replace(
        experiment,
        model=model,
        data=DATA,
        optim=replace(experiment.optim, learning_rate=1e-2, warmup=3),
        train=TrainConfig(steps=20, log_every=1, sample_tokens=0, eval_batches=1, save_every=0),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in CONFIGS if p.stem not in OWN and not p.stem.endswith(LARGER)], ids=lambda path: path.stem
)
def test_twenty_steps_lower_the_loss(path, tmp_path):
    train(small(load_config(path)), str(tmp_path))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5]) - 1
