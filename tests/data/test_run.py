"""A run on tokens that are not bytes: its folder is enough to go on and to evaluate."""

import importlib.metadata
import json
import shutil

import jax
import numpy as np
import pytest

from jaxseq.data import PipelineChanged, open_corpus, open_tokenizer
from jaxseq.evaluate import evaluate_workdir
from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig
from jaxseq.sharding import make_mesh
from jaxseq.train.session import open_session


def opened(config, workdir):
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        return open_session(config, str(workdir), mesh)


@pytest.fixture(scope="module")
def run(bpe, tmp_path_factory):
    """(config, workdir, the batch after) of a run saved after 3 batches, whose tokenizer file is gone."""
    folder = tmp_path_factory.mktemp("run")
    lines = [f"def encode_{i}(self, document): return self.tokenizer.encode(document)\n" for i in range(400)]
    (folder / "text.txt").write_text("".join(lines))
    (folder / "tokenizer.json").write_text(bpe.json)
    config = Experiment(
        model=ModelConfig(width=16, layers=1, vocab=512, pattern=("min_gru",)),
        data=DataConfig(
            source=str(folder / "text.txt"),
            piece_bytes=500,
            tokenizer=str(folder / "tokenizer.json"),
            length=32,
            batch=8,
        ),
        optim=OptimConfig(warmup=1),
        train=TrainConfig(steps=9),
    )
    session = opened(config, folder / "workdir")
    for _ in range(3):
        next(session.iterator)
    session.save(3)
    session.checkpoints.close()
    (folder / "tokenizer.json").unlink()
    return config, folder / "workdir", next(session.iterator)


def test_the_folder_of_a_run_has_its_tokenizer(run, bpe):
    config, workdir, _ = run
    assert open_tokenizer(config.data.tokenizer, workdir).name == bpe.name
    assert json.loads((workdir / "manifest.json").read_text())["tokenizer"] == bpe.name


def test_an_evaluation_counts_the_bytes_of_the_documents(run):
    config, workdir, _ = run
    documents = open_corpus(config.data.source, piece_bytes=500).documents("validation")
    assert evaluate_workdir(str(workdir)).bytes == documents.sizes.sum()


def test_a_run_goes_on_with_the_next_batch_without_the_file_of_its_tokenizer(run, bpe, tmp_path):
    config, workdir, expected = run
    shutil.copytree(workdir, tmp_path / "copy")
    session = opened(config, tmp_path / "copy")
    assert (session.start, session.tokenizer.name) == (3, bpe.name)
    found = next(session.iterator)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.max(found["tokens"]) > 256


def test_a_checkpoint_of_another_pipeline_is_refused_and_stays(run, tmp_path, monkeypatch):
    config, workdir, _ = run
    shutil.copytree(workdir, tmp_path / "copy")
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "grain" else version(name))
    with pytest.raises(PipelineChanged, match=r"grain: '.*' -> '9.9'"):
        opened(config, tmp_path / "copy")
    assert (tmp_path / "copy" / "checkpoints" / "3").is_dir()
    assert not (tmp_path / "copy" / "damaged").exists()
