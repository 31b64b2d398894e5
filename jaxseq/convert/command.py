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
from jaxseq.convert.card import write_card
from jaxseq.convert.hf import write_hf
from jaxseq.convert.load import is_workdir, load_model
from jaxseq.convert.text import carry_text
from jaxseq.convert.torch_folder import write_torch
from jaxseq.convert.verify import Deviation, compare
from jaxseq.experiment import Experiment
from jaxseq.ops.checks import check_choice

FORMS = ("hf", "jaxseq", "torch")
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
    """Writes the model of the folder `source` into the folder `target`, for PyTorch with a model card, and with the
    tokenizer's files where they are known.

    Args:
      source: a workdir (its latest checkpoint), or a folder with config.json and safetensors.
      target: a folder that is not there, or is empty.
      form: one of FORMS: "hf" (a folder of a class of transformers), "torch" (a folder with code of its own, for any
        model) or "jaxseq" (a workdir).
      dtype: of the tensors of "hf" and "torch", a name in DTYPES.
      verify: compare the result with the source, and remove it where it deviates too much.
      license: for the model card, see `write_card`.
      say: takes lines for a terminal.

    Raises:
      FileExistsError: the target holds something.
      ValueError, FileNotFoundError: the source cannot be read, or has no counterpart; the result is not right.
    """
    check_choice("form", form, FORMS)
    model, params = load_model(source)
    with _fresh(Path(target)) as folder:
        if form == "jaxseq":
            config = read_config(source) if is_workdir(source) else Experiment(model=model.config)
            save_model(folder, config, params)
            say(f"{source} -> {target}: a workdir of {'+'.join(model.config.pattern)}")
        elif form == "torch":
            write_torch(folder, model.config, params, DTYPES[dtype])
            say(f"{source} -> {target}: {'+'.join(model.config.pattern)} in plain PyTorch, {dtype}")
        else:
            architecture = write_hf(folder, model.config, params, DTYPES[dtype])
            say(f"{source} -> {target}: {architecture.name}, {dtype}")
        deviations = _verify(source, folder, form, DTYPES[dtype], say) if verify else []
        if form != "jaxseq":
            carry_text(source, folder, model.config.vocab)
            write_card(folder, source, model.config, params, deviations, license=license)


def _verify(source: str, folder: Path, form: str, dtype: Any, say: Callable[[str], None]) -> list[Deviation]:
    """Compares the side that torch reads with the side that we read."""
    theirs, ours = (Path(source), folder) if form == "jaxseq" else (folder, Path(source))
    if is_workdir(theirs):
        raise ValueError("a workdir is converted to a workdir: there is nothing to compare with")
    model, params = load_model(ours)
    if form == "torch":  # what was written are our own parameters, so rounding is no deviation
        params = jax.tree.map(lambda x: x.astype(dtype).astype(x.dtype), params)
    found = []
    for deviation in compare(theirs, model, params):
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
