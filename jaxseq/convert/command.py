"""A conversion from folder to folder that refuses to finish unless it is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxseq.checkpoint import read_config, save_model
from jaxseq.convert.hf import write_hf
from jaxseq.convert.load import is_workdir, load_model
from jaxseq.convert.verify import compare
from jaxseq.experiment import Experiment
from jaxseq.ops.checks import check_choice

FORMS = ("hf", "jaxseq")
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


def convert(
    source: str, target: str, form: str, *, dtype: str = "float32", verify: bool = True, say: Callable[[str], None]
) -> None:
    """Writes the model of the folder `source` into the folder `target`.

    Args:
      source: a workdir (its latest checkpoint), or a folder of transformers with safetensors.
      target: a folder that is not there, or is empty.
      form: one of FORMS: "hf" (a folder that AutoModelForCausalLM loads) or "jaxseq" (a workdir).
      dtype: of the tensors of "hf", a name in DTYPES.
      verify: compare the result with the source, and remove it where it deviates too much.
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
        else:
            architecture = write_hf(folder, model.config, params, DTYPES[dtype])
            say(f"{source} -> {target}: {architecture.name}, {dtype}")
        if verify:
            _verify(source, folder, form, say)


def _verify(source: str, folder: Path, form: str, say: Callable[[str], None]) -> None:
    """Compares the side that transformers reads with the side that we read."""
    theirs, ours = (Path(source), folder) if form == "jaxseq" else (folder, Path(source))
    if is_workdir(theirs):
        raise ValueError("a workdir is converted to a workdir: there is nothing to compare with")
    for deviation in compare(theirs, *load_model(ours)):
        say(str(deviation))
        if not deviation.passed:
            raise ValueError(f"the result is not right ({deviation.what}) and was removed")


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
