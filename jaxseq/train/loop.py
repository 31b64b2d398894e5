"""The loop: step n is dispatched before the metrics of step n-1 are read, so devices do not wait for the host."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax

from jaxseq.cluster import compile_together
from jaxseq.data import tokens_per_byte
from jaxseq.evaluate import Evaluation
from jaxseq.train.progress import Progress
from jaxseq.train.session import Session
from jaxseq.train.step import Metrics, place
from jaxseq.train.stop import Stop
from jaxseq.train.watch import Meter, Tracer, as_text, batch_digest

SOLVES = ("iterations", "iterations_max", "converged", "fell_back", "residual")


def stability(evaluation: Evaluation) -> dict[str, float]:
    """How far from expanding the nonlinear layers are, for the log: nothing where there are none."""
    found = {"growth": evaluation.growth, "jacobian": evaluation.jacobian}
    return {name: value for name, value in found.items() if math.isfinite(value)}


class Loop:
    """Runs a session's steps, logging, evaluating and saving on the way."""

    def __init__(self, session: Session, progress: Progress, profile: tuple[int, int] | None = None):
        self._session = session
        self._progress = progress
        self._pending: tuple[int, Metrics, jax.Array] | None = None
        self._converged = True
        self._first_iterations = _first_logged(session.folder.metrics) if _is_first() else None
        self._few_iterations = True
        self._tokens_per_byte = tokens_per_byte(session.corpus.documents("train"), session.tokenizer)
        self._meter = Meter()
        self._tracer = Tracer(session.folder.path / "profile", profile)
        self._board = _board(session)

    def run(self, stop: Stop) -> int:
        """Steps until the last or until `stop` is requested; returns the step reached, which is saved.

        Raises FloatingPointError, naming the step, when loss or gradient is not finite; the last checkpoint stays.
        """
        session, train = self._session, self._session.config.train
        step = session.start
        session.checkpoints.prepare(session.state.params, session.state.opt_state)
        while step < train.steps and not stop.reached(step):
            self._tracer.before(step)
            with self._meter.waiting():
                rows = next(session.iterator)
            batch = place(rows, session.mesh)
            if step == session.start:
                compile_together(session.step, session.state, batch)
            session.state, metrics = session.step(session.state, batch)
            step += 1
            self._settle()
            self._pending = (step, metrics, batch_digest(batch))
            if self._due(step, train.eval_every) or self._due(step, train.save_every):
                self._pause(step)
        self._settle()
        self._tracer.close()
        session.save(step)
        session.checkpoints.finish()
        return step

    def _due(self, step: int, interval: int) -> bool:
        return interval > 0 and step % interval == 0

    def _pause(self, step: int) -> None:
        """Waits for the step, evaluates and saves if either is due. Only a finite state is saved."""
        session, train = self._session, self._session.config.train
        score = None
        if self._due(step, train.eval_every):
            self._check(*self._read())
            with self._meter.apart():
                found = session.evaluate(train.eval_batches)
            score = found.bits_per_byte
            self._settle({"validation_bits_per_byte": score} | stability(found))
        else:
            self._settle()
        if self._due(step, train.save_every):
            with self._meter.apart(save=True):
                session.save(step, score)

    def _settle(self, more: dict[str, float] | None = None) -> None:
        """Reads the metrics of the step in flight, checks them, and logs them if they are due."""
        if self._pending is None:
            return
        step, values = self._read()
        digest = self._pending[2]
        self._pending = None
        self._check(step, values)
        self._meter.count(values["tokens"])
        train = self._session.config.train
        if more or step in (1, train.steps) or self._due(step, train.log_every):
            self._log(self._row(step, values) | {"batch": as_text(digest)} | (more or {}))

    def _read(self) -> tuple[int, dict[str, float]]:
        assert self._pending is not None
        step, metrics, _ = self._pending
        return step, {name: float(value) for name, value in jax.device_get(metrics).items()}

    def _check(self, step: int, values: dict[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                self._session.checkpoints.finish()
                steps = self._session.checkpoints.steps()
                kept = f"the last good checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"
                raise FloatingPointError(f"{name} is {values[name]} at step {step}: stopped; {kept}")
        if self._converged and values.get("converged", 1.0) < 1:
            self._converged = False
            self._progress.note(
                f"note: at step {step} Newton left {1 - values['converged']:.1%} of the sequences above its tolerance"
            )
        if self._few_iterations and "iterations" in values:
            self._compare_iterations(step, values["iterations"])

    def _compare_iterations(self, step: int, iterations: float) -> None:
        """Says so once when solves take more than twice the iterations of the first step logged."""
        self._first_iterations = self._first_iterations or (step, iterations)
        first, few = self._first_iterations
        if iterations > 2 * few:
            self._few_iterations = False
            self._progress.note(
                f"note: at step {step} Newton takes {iterations:.1f} iterations, at step {first} it took {few:.1f}: "
                "recurrent weights have grown (the mixer's option clip bounds them)"
            )

    def _row(self, step: int, values: dict[str, float]) -> dict[str, Any]:
        return {
            "step": step,
            "loss": values["loss"],
            "bits_per_byte": values["loss"] / math.log(2) * self._tokens_per_byte,
            "grad_norm": values["grad_norm"],
            "learning_rate": float(self._session.schedule(step - 1)),
            **self._meter.read(),
            **{name: values[name] for name in SOLVES if name in values},
        }

    def _log(self, row: dict[str, Any]) -> None:
        session = self._session
        left = (session.config.train.steps - row["step"]) * self._meter.seconds_per_step()
        self._progress.show(row, left)
        if _is_first():
            session.folder.log(row)
            if self._board is not None:
                for name, value in row.items():
                    if name == "batch":
                        continue
                    self._board.add_scalar(name, value, row["step"])


def _is_first() -> bool:
    return jax.process_index() == 0


def _first_logged(metrics: Path) -> tuple[int, float] | None:
    """Step and iterations of the first row that has them, of an earlier part of the run."""
    rows = map(json.loads, metrics.read_text().splitlines() if metrics.exists() else ())
    return next(((row["step"], row["iterations"]) for row in rows if "iterations" in row), None)


def _board(session: Session) -> Any:
    if not session.config.train.tensorboard or not _is_first():
        return None
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(session.folder.path / "tensorboard"), purge_step=session.start + 1)
