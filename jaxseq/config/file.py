"""Load a config from a Python file that defines get_config(), and say where the file went wrong."""

import os
import sys
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from jaxseq.config.values import check


def load_config(path: str | os.PathLike[str]) -> Any:
    """The config that get_config() of the Python file at `path` returns, checked.

    The file runs as a module of a private name; sys.path stays as it is. Raises FileNotFoundError where there is no
    such file; ValueError for a file that is not a .py file, that has no get_config(), that raises (naming file and
    line, with the cause attached), or whose get_config() returns something that check() refuses.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such config file")
    if Path(path).suffix != ".py":
        raise ValueError(f"{path}: wanted a .py file")
    config = _get_config(os.fspath(path))
    try:
        check(config)
    except ValueError as error:
        raise ValueError(f"{path}: get_config() returned a bad config: {error}") from error
    return config


def _get_config(path: str) -> Any:
    with _blaming(path):
        module = _execute(path)
    get_config = vars(module).get("get_config")
    if not callable(get_config):
        raise ValueError(f"{path}: defines no get_config()")
    with _blaming(path):
        return get_config()


class _Loader(SourceFileLoader):
    """Compiles the source each time: a config is read as it is now, and no __pycache__ appears beside it."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _execute(path: str) -> ModuleType:
    """The module stays in sys.modules, because dataclasses defined in the file look up their annotations there."""
    name = f"_config_{uuid.uuid4().hex}"
    loader = _Loader(name, path)
    spec = spec_from_loader(name, loader)
    if spec is None:
        raise ValueError("the file is not a Python module")
    sys.modules[name] = module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@contextmanager
def _blaming(path: str) -> Iterator[None]:
    """Whatever the file raises becomes a ValueError of one line."""
    try:
        yield
    except Exception as error:  # a config file is a program and may raise anything; the original stays as the cause
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{_place(path, error)}: {type(error).__name__}: {' '.join(text.split())}") from error


def _place(path: str, error: Exception) -> str:
    """file:line of the last line of the file that took part in the error; the file alone where none did."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{path}:{lines[-1]}" if lines else path
