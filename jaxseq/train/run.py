"""A run from start to end: train, evaluate, sample, plot, say what came out."""

from __future__ import annotations

from typing import Any

import jax

from jaxseq.analysis.plots import draw_loss
from jaxseq.data import xz_bits_per_byte
from jaxseq.experiment import Experiment
from jaxseq.generate import Sampling, generate
from jaxseq.model import count, declare
from jaxseq.sharding import make_mesh
from jaxseq.train.loop import Loop, stability
from jaxseq.train.progress import Progress
from jaxseq.train.session import Session, open_session
from jaxseq.train.stop import Stop


def train(
    config: Experiment, workdir: str, profile: tuple[int, int] | None = None, devices: list[Any] | None = None
) -> dict[str, Any] | None:
    """Trains `config` in `workdir`, going on where an earlier run stopped, and traces steps profile[0] + 1 to
    profile[1] into workdir/profile. In a run of several processes (`cluster.joined`), all of them call this.
    `devices` are those of the mesh, all if None.

    Returns the result that is also in workdir/result.json, or None where SIGTERM or Ctrl-C ended the run early (it is
    saved, and the same call goes on).

    Raises:
      ValueError, OSError: what is wrong with the config, the data or the workdir, in one line.
      FloatingPointError: loss or gradient not finite, naming the step; the last good checkpoint stays.
    """
    mesh = make_mesh(config.mesh, devices)
    with Stop() as stop, jax.set_mesh(mesh):
        session = open_session(config, workdir, mesh)
        try:
            return _run(session, stop, profile)
        finally:
            session.checkpoints.close()


def _run(session: Session, stop: Stop, profile: tuple[int, int] | None) -> dict[str, Any] | None:
    steps, start = session.config.train.steps, session.start
    progress = Progress(steps, start)
    try:
        _announce(session, progress)
        result = session.folder.read("result.json")
        if start >= steps and result is not None and result["step"] == start:
            progress.note(f"this run is complete: {start} steps (train.steps = more goes on)")
            _conclude(session, progress, result)
            return result
        reached = Loop(session, progress, profile).run(stop)
    finally:
        progress.close()
    if stop.requested and reached < steps:
        where = f" to one of {jax.process_count()} processes" if jax.process_count() > 1 else ""
        progress.note(
            f"{stop.requested}{where}: stopped at step {reached} and saved; the same command goes on from there"
        )
        return None
    result = _measure(session, reached)
    if jax.process_index() == 0:
        session.folder.write("result.json", result)
    _conclude(session, progress, result)
    return result


def _announce(session: Session, progress: Progress) -> None:
    for line in session.notes:
        progress.note(line)
    model = session.config.model
    progress.note(
        f"model: {'+'.join(model.pattern)}, {model.layers} layers, width {model.width}, "
        f"{count(declare(session.model)):,} parameters; mesh {dict(session.mesh.shape)} on {jax.default_backend()}"
    )
    if session.start:
        progress.note(f"resuming from the checkpoint of step {session.start}")


def _measure(session: Session, step: int) -> dict[str, Any]:
    evaluation = session.evaluate()
    return {
        "step": step,
        "validation_bits_per_byte": evaluation.bits_per_byte,
        "validation_perplexity": evaluation.perplexity,
        "validation_bytes": evaluation.bytes,
        "xz_bits_per_byte": xz_bits_per_byte(session.corpus.documents("validation")),
        "converged": evaluation.converged,
        **stability(evaluation),
        "sample": _sample(session),
    }


def _sample(session: Session) -> str:
    tokens = session.config.train.sample_tokens
    if not tokens:
        return ""
    sampling = Sampling(temperature=0.8, seed=session.config.train.seed)
    text = generate(session.model, session.params, session.tokenizer, [b""], max_tokens=tokens, sampling=sampling)[0]
    return text.decode(errors="replace")


def _conclude(session: Session, progress: Progress, result: dict[str, Any]) -> None:
    if jax.process_index():
        return
    folder = session.folder
    if result["sample"]:
        progress.note(f"sample (temperature 0.8):\n{_indented(result['sample'])}")
    progress.note(
        f"validation: {result['validation_bits_per_byte']:.3f} bits/byte over {result['validation_bytes']:,.0f} bytes "
        f"(xz -9e of the same bytes: {result['xz_bits_per_byte']:.3f})"
    )
    progress.note(f"workdir: {folder.path}")
    progress.note(_draw(session, result["xz_bits_per_byte"]))


def _draw(session: Session, xz: float) -> str:
    picture = session.folder.path / "loss.png"
    try:
        draw_loss(session.folder.metrics, picture, xz)
    except ModuleNotFoundError:
        return "loss.png: not drawn, matplotlib is missing (pip install 'jaxseq[terminal]')"
    return f"plot: {picture}"


def _indented(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.splitlines())
