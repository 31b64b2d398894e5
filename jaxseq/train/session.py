"""Everything a run works with, made from its config: mesh, data, model, optimizer, compiled step, checkpoints."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import grain
import jax
from jax.experimental import multihost_utils  # a collective between processes has no other public place
from jax.sharding import Mesh

from jaxseq.checkpoint import Checkpoints
from jaxseq.cluster import advise
from jaxseq.data import (
    Corpus,
    Tokenizer,
    manifest,
    open_data,
    open_tokenizer,
    save_tokenizer,
    stream_batches,
    train_batches,
)
from jaxseq.evaluate import Evaluation, evaluate
from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, declare
from jaxseq.sharding import row_share
from jaxseq.train.optimizer import make_optimizer, make_schedule
from jaxseq.train.origin import adopt, first_params
from jaxseq.train.state import TrainState, abstract_state, make_state, placed, state_shardings
from jaxseq.train.step import make_step, place
from jaxseq.train.workdir import Workdir, claim


@dataclass
class Session:
    """The parts of one run. `state` and `iterator` move on; the rest stays."""

    config: Experiment
    mesh: Mesh
    corpus: Corpus
    tokenizer: Tokenizer
    model: LanguageModel
    folder: Workdir
    checkpoints: Checkpoints
    iterator: grain.DatasetIterator[dict[str, Any]]
    step: Any
    schedule: Any
    state: TrainState
    start: int
    notes: list[str]

    @property
    def params(self) -> Any:
        """The parameters that the run's model has now: adapters merged, and averaged if the run keeps an average."""
        return self.config.train.weights.evaluated(self.state.params)

    def evaluate(self, max_batches: int | None = None) -> Evaluation:
        """The validation split, or its first batches, with the state carried along each row."""
        data = self.config.data
        documents = self.corpus.documents("validation")
        part, parts = row_share(self.mesh)
        rows = stream_batches(documents, self.tokenizer, length=data.length, batch=data.batch, part=part, parts=parts)
        return evaluate(
            self.model,
            self.params,
            (place(batch, self.mesh) for batch in rows),
            token_bytes=self.tokenizer.token_bytes,
            max_batches=max_batches,
        )

    def save(self, step: int, score: float | None = None) -> None:
        """A checkpoint of this moment, written in the background."""
        self.checkpoints.save(step, self.state.params, self.state.opt_state, self.iterator, self.config, score)


def open_session(config: Experiment, workdir: str, mesh: Mesh) -> Session:
    """A fresh run in an empty workdir, or the continuation of the one that is there.

    Raises ValueError and OSError for what is wrong with the config, the data or the workdir.
    """
    _check(config, mesh)
    config = adopt(config)
    data = config.data
    tokenizer = open_tokenizer(data.tokenizer, workdir)
    corpus = open_data(data, tokenizer)
    if tokenizer.vocab > config.model.vocab:
        raise ValueError(f"model.vocab must be at least the tokenizer's {tokenizer.vocab}, got {config.model.vocab}")
    model = LanguageModel(config.model)
    optimizer = make_optimizer(config, declare(model))
    iterator = _iterator(config, corpus, tokenizer, mesh)
    summary = manifest(corpus) | {"tokenizer": tokenizer.name}
    # claim() comes after all that may refuse the config: then there is no trace of it.
    folder, allowed = claim(workdir, config, summary)
    if jax.process_count() > 1:
        # All are here now: collectives on CPU give the slower of two processes 30 s to come to the first of them.
        multihost_utils.sync_global_devices("claimed")
    checkpoints = Checkpoints(workdir, config.train.keep_last)
    advise(lambda: f"; {checkpoints.describe()}: the same command goes on from there")
    state, start = _state(model, optimizer, config, mesh, checkpoints, iterator)
    if jax.process_index() == 0:
        save_tokenizer(tokenizer, workdir)
        folder.rewind(start)
    notes = [_corpus_line(summary), *(f"changed: {line}" for line in allowed)]
    return Session(
        config, mesh, corpus, tokenizer, model, folder, checkpoints, iterator,
        make_step(model, optimizer, config, mesh), make_schedule(config), state, start, notes,
    )  # fmt: skip


def _iterator(
    config: Experiment, corpus: Corpus, tokenizer: Tokenizer, mesh: Mesh
) -> grain.DatasetIterator[dict[str, Any]]:
    data, (part, parts) = config.data, row_share(mesh)
    return train_batches(
        corpus.documents("train"),
        tokenizer,
        length=data.length,
        batch=data.batch,
        seed=data.seed,
        shards=data.shards,
        process_index=part,
        process_count=parts,
    )


def _state(
    model: LanguageModel, optimizer: Any, config: Experiment, mesh: Mesh, checkpoints: Checkpoints, iterator: Any
) -> tuple[TrainState, int]:
    if checkpoints.steps():
        weights = config.train.weights
        wanted = placed(abstract_state(model, optimizer, weights), state_shardings(model, optimizer, mesh, weights))
        restored = checkpoints.restore(wanted.params, wanted.opt_state, iterator)
        if restored is not None:
            step = jax.device_put(jax.numpy.int32(restored.step), wanted.step.sharding)
            return TrainState(step, restored.params, restored.opt_state), restored.step
    return make_state(first_params(config, mesh), model, optimizer, mesh, config.train.weights), 0


def _check(config: Experiment, mesh: Mesh) -> None:
    rows, parts = config.data.batch // config.train.accumulate, mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % parts:
        raise ValueError(
            f"data.batch / train.accumulate = {rows} rows must divide over data x fsdp = {parts} devices of the mesh"
        )
    if config.train.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("train.tensorboard needs tensorboardX: pip install 'jaxseq[tensorboard]'")


def _corpus_line(summary: dict[str, Any]) -> str:
    splits = ", ".join(f"{name} {split['bytes']:,} bytes" for name, split in summary["splits"].items())
    python = f" of Python {summary['python']}" if "python" in summary else ""
    digest = summary["splits"]["train"]["sha256"][:12]
    return f"data: {summary['source']}{python}: {splits} (sha256 of train {digest}...)"
