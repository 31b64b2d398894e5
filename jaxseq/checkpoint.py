"""Checkpoints: {parameters, optimizer, data iterator, meta}, written asynchronously by orbax, verified when read.

    workdir/checkpoints/<step>/{params,optimizer,data,meta}

A directory of that name is complete: orbax writes to another name and renames. `meta` is JSON: the experiment, the
versions, and fingerprints of all that was saved, which a restore recomputes. A checkpoint that cannot be read, or does
not match its fingerprint, is moved to workdir/damaged with a warning, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts  # orbax's own storage
from jax import lax
from orbax.checkpoint import checkpoint_managers as managers

from jaxseq.config import from_json, to_json
from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, declare
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

    def save(
        self, step: int, params: Any, opt_state: Any, iterator: Any, config: Experiment, score: float | None = None
    ) -> None:
        """Writes a checkpoint in the background; the arrays are copied before this returns.

        Raises whatever an earlier background write failed with. A step that is there already is left as it is.
        """
        self._manager.check_for_errors()
        if step in self._manager.all_steps():
            return
        meta = {
            "config": to_json(config),
            "versions": versions(),
            "params": fingerprint(params),
            "optimizer": fingerprint(opt_state),
            "data": _digest(iterator.get_state()),
        }
        meta["meta"] = _digest(meta)
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            optimizer=ocp.args.StandardSave(opt_state),
            data=grain.checkpoint.CheckpointSave(iterator),
            meta=ocp.args.JsonSave(meta),
        )
        self._manager.save(step, args=items, metrics=None if score is None else {"score": score}, force=True)

    def restore(self, params: Any, opt_state: Any, iterator: Any) -> Restored | None:
        """The latest whole checkpoint, with the iterator moved to its place; None if there is none.

        `params` and `opt_state` are trees of ShapeDtypeStruct with the shardings wanted now.
        """
        untouched = iterator.get_state()
        for step in reversed(self.steps()):
            try:
                return self._read(step, params, opt_state, iterator)
            except Exception as error:  # whatever orbax, tensorstore, zstd or json raise on damaged files
                self._set_aside(step, error)
        iterator.set_state(untouched)
        return None

    def finish(self) -> None:
        """Waits for the writes under way and raises their errors."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def close(self) -> None:
        """Finishes and lets go of the directory."""
        self.finish()
        self._manager.close()

    def _read(self, step: int, params: Any, opt_state: Any, iterator: Any) -> Restored:
        for item in ("params", "optimizer"):
            _try_arrays(self._workdir / "checkpoints" / str(step) / item)
        args = ocp.args.Composite(
            params=ocp.args.StandardRestore(params),
            optimizer=ocp.args.StandardRestore(opt_state),
            data=grain.checkpoint.CheckpointRestore(iterator),
            meta=ocp.args.JsonRestore(),
        )
        got: Any = self._manager.restore(step, args=args)
        _verify("parameters", fingerprint(got.params), got.meta["params"])
        _verify("optimizer state", fingerprint(got.optimizer), got.meta["optimizer"])
        _verify("data position", _digest(iterator.get_state()), got.meta["data"])
        _verify_meta(got.meta)
        return Restored(step, got.params, got.optimizer, got.meta)

    def _set_aside(self, step: int, error: Exception) -> None:
        damaged = self._workdir / "damaged"
        damaged.mkdir(exist_ok=True)
        place = damaged / f"{step}-{len(list(damaged.iterdir()))}"
        shutil.move(self._workdir / "checkpoints" / str(step), place)
        self._manager.reload()
        text = f"checkpoint {step} is damaged ({_first_line(error)}): moved to {place}, using an older one"
        warnings.warn(text, stacklevel=3)

    def _report_unfinished(self) -> None:
        folder = self._workdir / "checkpoints"
        for path in sorted(folder.glob("*tmp*")) if folder.is_dir() else ():
            warnings.warn(f"checkpoint {path.name.split('.')[0]} was not finished: ignored", stacklevel=3)


def fingerprint(tree: Any) -> int:
    """The sum of all bits of a tree of arrays, read as unsigned integers, modulo 2³².

    Exact and independent of order, so the same on any mesh; any single changed entry changes it.
    """
    return int(_sum_of_bits(tree))


@jax.jit
def _sum_of_bits(tree: Any) -> jax.Array:
    return sum((_bits(leaf) for leaf in jax.tree.leaves(tree)), jnp.zeros((), jnp.uint32))


def _bits(x: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x):
        return _bits(x.real) + _bits(x.imag)
    if x.dtype == jnp.bool_:
        return jnp.sum(x, dtype=jnp.uint32)
    words = lax.bitcast_convert_type(x, np.dtype(f"uint{8 * x.dtype.itemsize}"))
    return jnp.sum(words.astype(jnp.uint32), dtype=jnp.uint32)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    packages = ("jaxseq", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def read_config(workdir: str | Path) -> Experiment:
    """The experiment of a workdir. Raises FileNotFoundError where there is none, ValueError where it is unreadable."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{workdir}: not a workdir, it has no config.json (train first)")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    return from_json(Experiment, data)


def read_model(workdir: str | Path, step: int | None = None) -> tuple[Experiment, LanguageModel, Any, int]:
    """(experiment, model, parameters, step) of a workdir's checkpoint, the latest by default, on one device.

    Reads the parameters alone and moves nothing. Raises FileNotFoundError where there is no such checkpoint, and
    ValueError where it is damaged, naming the others.
    """
    config = read_config(workdir)
    model = LanguageModel(config.model)
    folder = Path(workdir).absolute() / "checkpoints"
    found = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
    if not found or (step is not None and step not in found):
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise FileNotFoundError(f"{workdir}: {wanted} (there are: {found})")
    step = found[-1] if step is None else step
    try:
        params = _read_params(folder, step, model)
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
    (folder / "config.json").write_text(json.dumps(to_json(config), indent=2) + "\n")
    meta = {"config": to_json(config), "versions": versions(), "params": fingerprint(params)}
    meta["meta"] = _digest(meta)
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        manager.save(0, args=ocp.args.Composite(params=ocp.args.StandardSave(params), meta=ocp.args.JsonSave(meta)))


def _read_params(folder: Path, step: int, model: LanguageModel) -> Any:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.value.shape, leaf.value.dtype, sharding=here),
        declare(model),
        is_leaf=is_declared,
    )
    _try_arrays(folder / str(step) / "params")
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        args = ocp.args.Composite(params=ocp.args.StandardRestore(wanted), meta=ocp.args.JsonRestore())
        got: Any = manager.restore(step, args=args)
    _verify("parameters", fingerprint(got.params), got.meta["params"])
    _verify_meta(got.meta)
    return got.params


def _try_arrays(item: Path) -> None:
    """Reads every array of an item once, one at a time, and raises what is wrong with the first that is damaged.

    Without this, one damaged array ends orbax's own concurrent read while the others go on, and tensorstore's threads
    print a traceback for each of them.
    """
    files = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{item}/"}}
    for key in ts.KvStore.open(files).result().list().result():
        name, _, leaf = key.decode().rpartition("/")
        if leaf == ".zarray":
            ts.open({"driver": "zarr", "kvstore": {**files, "path": f"{name}/"}}, read=True).result().read().result()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _rank(metrics: dict[str, float]) -> float:
    return -metrics["score"]


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _verify_meta(meta: dict[str, Any]) -> None:
    _verify("meta", _digest({name: value for name, value in meta.items() if name != "meta"}), meta["meta"])


def _verify(what: str, found: Any, saved: Any) -> None:
    if found != saved:
        raise ValueError(f"{what} do not match the fingerprint saved with them")
