"""A run goes on with other devices and the same batches; with other data it is refused, and nothing is moved."""

import json
from dataclasses import replace

import jax
import pytest

from jaxseq.model import ModelConfig
from jaxseq.train import run, session
from jaxseq.train.rehearsal import TOLERANCE, deviation
from tests.e2e.conftest import tiny, train


def small(corpus, **fields):
    return replace(tiny(corpus, **fields), model=ModelConfig(width=16, layers=1, pattern=("min_gru",)))


def train_on(devices, config, workdir):
    """Trains on the first so many devices."""
    run.train(config, str(workdir), devices=jax.devices()[:devices])


@pytest.fixture
def mixed(corpus, tmp_path):
    """The words, and short documents that are packed, mixed."""
    words = corpus.read_text().split()
    documents = [json.dumps({"text": " ".join(words[i : i + 5])}) for i in range(0, 5_000, 5)]
    (tmp_path / "short.jsonl").write_text("\n".join(documents))
    config = small(corpus, steps=8)
    data = replace(config.data, source=(str(corpus), str(tmp_path / "short.jsonl")), weights=(2.0, 1.0))
    return replace(config, data=data)


@pytest.mark.slow
def test_on_8_then_4_then_1_then_2_devices_batches_are_the_same_and_losses_to_tolerance(mixed, tmp_path):
    whole, elastic = tmp_path / "whole", tmp_path / "elastic"
    train_on(8, mixed, whole)
    for step, devices in enumerate((8, 4, 1, 2), 1):
        stop_after(elastic, 2 * step, lambda devices=devices: train_on(devices, mixed, elastic))
    assert deviation(elastic, whole) <= TOLERANCE


def stop_after(workdir, step, start):
    """Runs `start` as if SIGTERM came in that step."""
    genuine = run.Stop.reached
    with pytest.MonkeyPatch.context() as patch:

        def reached(self, now):
            self.requested = "SIGTERM" if now >= step else None
            return genuine(self, now)

        patch.setattr(run.Stop, "reached", reached)
        start()
    assert (workdir / "checkpoints" / str(step)).is_dir()


def test_another_pipeline_is_refused_with_what_differs_and_nothing_is_moved(corpus, tmp_path, monkeypatch):
    train(small(corpus, steps=2), str(tmp_path))
    genuine = session.train_batches

    def other(*args, **kwargs):
        iterator = genuine(*args, **kwargs)
        iterator.pipeline["grain"] = "0.0"
        return iterator

    monkeypatch.setattr(session, "train_batches", other)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"the data pipeline is not the one that was saved: grain: '.*' -> '0\.0'"):
        train(small(corpus, steps=4), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "checkpoints" / "2").is_dir()


def test_another_number_of_shards_is_refused_by_the_config(corpus, tmp_path):
    config = small(corpus, steps=2)
    train(config, str(tmp_path))
    with pytest.raises(ValueError, match=r"another config \(data\.shards: None -> 4\)"):
        train(replace(config, data=replace(config.data, shards=4)), str(tmp_path))
