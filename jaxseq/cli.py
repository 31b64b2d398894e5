"""What every launch script does first: run under absl, and turn a user's error into one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

DEBUG = flags.DEFINE_bool("debug", False, "On an error, show the traceback.")


def run(main: Callable[[list[str]], int | None], usage: str = "", failure: int = 1) -> None:
    """Runs main(positional arguments) and exits with its result, 0 if None.

    ValueError, OSError and ArithmeticError (a run that is no longer finite) become one line on stderr and exit code
    `failure`; with --debug they are raised. `usage` names the positional arguments, one word each; another number of
    them is refused.
    """
    wanted = usage.split()

    def guarded(argv: list[str]) -> Any:
        logging.set_verbosity(logging.FATAL)  # what libraries log as errors is raised too
        warnings.showwarning = _one_line
        if len(argv) - 1 != len(wanted):
            raise app.UsageError(f"expected {len(wanted)} arguments ({usage or 'flags only'}), got {argv[1:]}")
        try:
            return main(argv[1:])
        except (ValueError, OSError, ArithmeticError) as error:
            if DEBUG.value:
                raise
            print(f"error: {_text(error)}", file=sys.stderr)
            return failure

    app.run(guarded)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def _one_line(message: Any, category: type, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    print(f"warning: {message}", file=sys.stderr)
