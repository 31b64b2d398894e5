"""Checkpoints: {parameters, optimizer, data iterator, meta}, written asynchronously by orbax, verified when read.

    workdir/checkpoints/<step>/{params,optimizer,data,meta}

A directory of that name is complete: orbax writes to another name and renames. `meta` is JSON: the experiment, the
versions, and fingerprints of all that was saved, which a restore recomputes. A checkpoint that cannot be read, or does
not match its fingerprint, is moved to workdir/damaged with a warning, and the one before it is used.

With several processes each writes its own part of the arrays, and process 0 the JSON: `data` holds the places of all
processes' shards of the data. So any number of processes can go on with it.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
import tensorstore as ts  # orbax's own storage
from orbax.checkpoint import checkpoint_managers as managers

from jaxseq.cluster import gather
from jaxseq.config import from_json, to_json
from jaxseq.experiment import Experiment
from jaxseq.fingerprint import digest, fingerprint
from jaxseq.model import LanguageModel, declare
from jaxseq.model.lora import LoRA
from jaxseq.model.weights import Weights
from jaxseq.sharding import is_declared


class Restored(NamedTuple):
    """What a restore gives back: the step, the parameters, the optimizer's state, and the meta JSON."""

    step: int
    params: Any
    opt_state: Any
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one workdir: the `keep_last` latest and the best by score (lower is better)."""

    def __init__(self, workdir: str | Path, keep_last: int = 2):
        self._workdir = Path(workdir).absolute()
        policy = managers.AnyPreservationPolicy(
            [
                managers.LatestN(keep_last),
                managers.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        self._report_unfinished()
        self._manager = ocp.CheckpointManager(self._workdir / "checkpoints", options=options)

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def prepare(self, params: Any, opt_state: Any) -> None:
        """Compiles the fingerprints, so that the first save holds up the steps no longer than later ones."""
        for tree in (params, opt_state):
            fingerprint(tree)

    def save(
        self, step: int, params: Any, opt_state: Any, iterator: Any, config: Experiment, score: float | None = None
    ) -> None:
        """Writes a checkpoint in the background; the arrays are copied before this returns.

        Raises OSError where this write, or an earlier one in the background, fails. A step that is there already is
        left as it is.
        """
        if step in self._manager.all_steps():
            return
        position: dict[str, Any] = {}
        for part in gather(json.dumps(iterator.get_state())):
            position |= json.loads(part)
        meta = {
            "config": to_json(config),
            "versions": versions(),
            "params": fingerprint(params),
            "optimizer": fingerprint(opt_state),
            "data": digest(position),
        }
        meta["meta"] = digest(meta)
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            optimizer=ocp.args.StandardSave(opt_state),
            data=ocp.args.JsonSave(position),
            meta=ocp.args.JsonSave(meta),
        )
        with self._writing():
            self._manager.check_for_errors()
            self._manager.save(step, args=items, metrics=None if score is None else {"score": score}, force=True)

    def restore(self, params: Any, opt_state: Any, iterator: Any) -> Restored | None:
        """The latest whole checkpoint, with the iterator moved to its place; None if there is none.

        `params` and `opt_state` are trees of ShapeDtypeStruct with the shardings wanted now. Raises what
        `iterator.set_state` does where another pipeline was saved: the checkpoint stays where it is.
        """
        for step in reversed(self.steps()):
            try:
                restored, position = self._read(step, params, opt_state)
            except Exception as error:  # whatever orbax, tensorstore, zstd or json raise on damaged files
                self._set_aside(step, error)
            else:
                iterator.set_state(position)
                return restored
        return None

    def finish(self) -> None:
        """Waits for the writes under way. Raises OSError where one fails."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Finishes and lets go of the directory."""
        self.finish()
        self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns whatever a write fails with into an OSError that says what is left."""
        try:
            yield
        except Exception as error:  # orbax and tensorstore raise many kinds for a full or missing disk
            raise OSError(f"a checkpoint could not be written ({_first_line(error)}); {self.describe()}") from error

    def describe(self) -> str:
        """What there is to go on with, in words. Reads the directory alone."""
        found = _steps_in(self._workdir / "checkpoints")
        return f"the last checkpoint is of step {found[-1]}" if found else "there is no checkpoint yet"

    def _read(self, step: int, params: Any, opt_state: Any) -> tuple[Restored, dict[str, Any]]:
        """The checkpoint and the place of its data. Every process tries its part of the files, and all agree."""
        problems = [text for text in gather(self._problem(step)) if text]
        if problems:
            raise ValueError(problems[0])
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(params),
            optimizer=ocp.args.StandardRestore(opt_state),
            data=ocp.args.JsonRestore(),
            meta=ocp.args.JsonRestore(),
        )
        got: Any = self._manager.restore(step, args=args)
        _verify("parameters", fingerprint(got.params), got.meta["params"])
        _verify("optimizer state", fingerprint(got.optimizer), got.meta["optimizer"])
        _verify("data position", digest(got.data), got.meta["data"])
        _verify_meta(got.meta)
        return Restored(step, got.params, got.optimizer, got.meta), got.data

    def _problem(self, step: int) -> str:
        try:
            for item in ("params", "optimizer"):
                _try_arrays(self._workdir / "checkpoints" / str(step) / item, jax.process_index(), jax.process_count())
        except Exception as error:  # see restore
            return _first_line(error)
        return ""

    def _set_aside(self, step: int, error: Exception) -> None:
        if jax.process_index() == 0:
            damaged = self._workdir / "damaged"
            damaged.mkdir(exist_ok=True)
            place = damaged / f"{step}-{len(list(damaged.iterdir()))}"
            shutil.move(self._workdir / "checkpoints" / str(step), place)
            text = f"checkpoint {step} is damaged ({_first_line(error)}): moved to {place}, using an older one"
            warnings.warn(text, stacklevel=3)
        gather("moved")
        self._manager.reload()

    def _report_unfinished(self) -> None:
        folder = self._workdir / "checkpoints"
        for path in sorted(folder.glob("*tmp*")) if folder.is_dir() and not jax.process_index() else ():
            warnings.warn(f"checkpoint {path.name.split('.')[0]} was not finished: ignored", stacklevel=3)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    packages = ("jaxseq", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def read_config(workdir: str | Path) -> Experiment:
    """The experiment of a workdir; a field that is younger than it has its default, which is what was done before.

    Raises FileNotFoundError where there is none, ValueError where it is unreadable.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{workdir}: not a workdir, it has no config.json (train first)")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    return from_json(Experiment, data, defaults=True)


def read_model(workdir: str | Path, step: int | None = None) -> tuple[Experiment, LanguageModel, Any, int]:
    """(experiment, model, parameters, step) of a workdir's checkpoint, the latest by default, on one device.

    Reads the parameters alone and moves nothing; adapters come merged, and the average where the run kept one. Raises
    FileNotFoundError where there is no such checkpoint, and ValueError where it is damaged, naming the others.
    """
    config = read_config(workdir)
    model = LanguageModel(config.model)
    folder = Path(workdir).absolute() / "checkpoints"
    found = _steps_in(folder)
    if not found or (step is not None and step not in found):
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise FileNotFoundError(f"{workdir}: {wanted} (there are: {found})")
    step = found[-1] if step is None else step
    try:
        params = _read_params(folder, step, model, config.train.weights)
    except Exception as error:  # whatever orbax, tensorstore, zstd or json raise on damaged files
        others = [n for n in found if n != step]
        text = f"checkpoint {step} of {workdir} is damaged ({_first_line(error)}); others: {others}"
        raise ValueError(text) from error
    return config, model, params, step


def save_model(workdir: str | Path, config: Experiment, params: Any) -> None:
    """Makes a workdir of a model that was not trained here: config.json and, as step 0, the parameters alone.

    `read_model` reads it, so it can be evaluated, sampled and converted; to train from it, convert it to a folder of
    Hugging Face and name that in `init.from_hf`.
    """
    folder = Path(workdir).absolute()
    config = replace(config, train=replace(config.train, lora=LoRA(), ema=0.0))  # the parameters are all there is
    (folder / "config.json").write_text(json.dumps(to_json(config), indent=2) + "\n")
    meta = {"config": to_json(config), "versions": versions(), "params": fingerprint(params)}
    meta["meta"] = digest(meta)
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        manager.save(0, args=ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(meta)))


def _read_params(folder: Path, step: int, model: LanguageModel, weights: Weights) -> Any:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.value.shape, leaf.value.dtype, sharding=here),
        weights.declare(declare(model)),
        is_leaf=is_declared,
    )
    _try_arrays(folder / str(step) / "params")
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        args = ocp.args.Composite(params=ocp.args.StandardRestore(wanted), meta=ocp.args.JsonRestore())
        got: Any = manager.restore(step, args=args)
    _verify("parameters", fingerprint(got.params), got.meta["params"])
    _verify_meta(got.meta)
    return weights.evaluated(got.params)


def _steps_in(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _try_arrays(item: Path, process: int = 0, processes: int = 1) -> None:
    """Reads every array of an item once, one at a time, and raises what is wrong with the first that is damaged.

    Process p of n reads every n-th of them.

    Without this, one damaged array ends orbax's own concurrent read while the others go on, and tensorstore's threads
    print a traceback for each of them.
    """
    files = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{item}/"}}
    names = sorted(key.decode() for key in ts.KvStore.open(files).result().list().result() if key.endswith(b"/.zarray"))
    for name in names[process::processes]:
        kvstore = {**files, "path": name.removesuffix(".zarray")}
        ts.open({"driver": "zarr", "kvstore": kvstore}, read=True).result().read().result()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _rank(metrics: dict[str, float]) -> float:
    return -metrics["score"]


def _verify_meta(meta: dict[str, Any]) -> None:
    _verify("meta", digest({name: value for name, value in meta.items() if name != "meta"}), meta["meta"])


def _verify(what: str, found: Any, saved: Any) -> None:
    if found != saved:
        raise ValueError(f"{what} do not match the fingerprint saved with them")
