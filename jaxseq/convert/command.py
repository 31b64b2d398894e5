"""A conversion from folder to folder that refuses to finish unless it is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from jaxseq.checkpoint import read_config, save_model
from jaxseq.convert.bar import Seen, bar
from jaxseq.convert.card import write_card
from jaxseq.convert.hf import write_hf
from jaxseq.convert.load import is_workdir, load_model
from jaxseq.convert.pararnn_folder import is_pararnn, write_pararnn
from jaxseq.convert.text import carry_text
from jaxseq.convert.torch_folder import write_torch
from jaxseq.convert.verify import Deviation, compare
from jaxseq.convert.verify_pararnn import compare_pararnn
from jaxseq.experiment import Experiment
from jaxseq.model import ModelConfig
from jaxseq.ops.checks import check_choice

FORMS = ("hf", "jaxseq", "torch", "pararnn")
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


def convert(
    source: str,
    target: str,
    form: str,
    *,
    dtype: str = "float32",
    verify: bool = True,
    license: str = "unknown",
    say: Callable[[str], None],
) -> None:
    """Writes the model of the folder `source` into the folder `target`; "hf" and "torch" come with a model card, and
    with the tokenizer's files where they are known.

    Args:
      source: a workdir (its latest checkpoint), or a folder with config.json and safetensors.
      target: a folder that is not there, or is empty.
      form: one of FORMS: "hf" (a folder of a class of transformers), "torch" (a folder with code of its own, for any
        model), "pararnn" (a folder with cells for ml-pararnn) or "jaxseq" (a workdir).
      dtype: of the tensors of all but "jaxseq", a name in DTYPES.
      verify: compare the result with the source, and remove it where it deviates too much.
      license: for the model card, see `write_card`.
      say: takes lines for a terminal.

    Raises:
      FileExistsError: the target holds something.
      ValueError, FileNotFoundError: the source cannot be read, or has no counterpart; the result is not right.
    """
    check_choice("form", form, FORMS)
    with bar("tensors read") as seen:
        model, params = load_model(source, seen=seen)
    with _fresh(Path(target)) as folder:
        with bar("tensors written") as seen:
            made = _write(source, folder, model.config, params, form, dtype, seen)
        say(f"{source} -> {target}: {made}")
        deviations = _verify(source, folder, form, DTYPES[dtype], say) if verify else []
        if form in ("hf", "torch"):
            carry_text(source, folder, model.config.vocab)
            write_card(folder, source, model.config, params, deviations, license=license)


def _write(source: str, folder: Path, config: ModelConfig, params: Any, form: str, dtype: str, seen: Seen) -> str:
    """Writes the model in a form; what it is now."""
    kinds = "+".join(config.pattern)
    if form == "jaxseq":
        save_model(folder, read_config(source) if is_workdir(source) else Experiment(model=config), params)
        return f"a workdir of {kinds}"
    if form == "torch":
        write_torch(folder, config, params, DTYPES[dtype], seen=seen)
        return f"{kinds} in plain PyTorch, {dtype}"
    if form == "pararnn":
        cell = write_pararnn(folder, config, params, DTYPES[dtype], seen=seen)
        return f"{cell} of ml-pararnn, {dtype}; all but the cells under names of jaxseq's own"
    return f"{write_hf(folder, config, params, DTYPES[dtype], seen=seen).name}, {dtype}"


def _verify(source: str, folder: Path, form: str, dtype: Any, say: Callable[[str], None]) -> list[Deviation]:
    """Compares the side that another library reads with the side that we read."""
    theirs, ours = (Path(source), folder) if form == "jaxseq" else (folder, Path(source))
    if is_workdir(theirs):
        raise ValueError("a workdir is converted to a workdir: there is nothing to compare with")
    model, params = load_model(ours)
    if form in ("torch", "pararnn"):  # what was written are our own parameters, so rounding is no deviation
        params = jax.tree.map(lambda x: x.astype(dtype).astype(x.dtype), params)
    found, check = [], compare
    if is_pararnn(theirs):
        check = compare_pararnn
        say("compared with the equations of ml-pararnn in float64: the library itself, built for CUDA, was not run")
    for deviation in check(theirs, model, params):
        found.append(deviation)
        say(str(deviation))
        if not deviation.passed:
            raise ValueError(f"the result is not right ({deviation.what}) and was removed")
    return found


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it once all is done, and is removed if not."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise FileExistsError(f"{target} is there and not empty: give another folder, or remove it first")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
