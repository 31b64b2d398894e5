"""From the string `data.source` to a sorted list of files."""

import glob
import os
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_STDLIB_SKIPPED = frozenset({"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "__pycache__"})


@dataclass(frozen=True)
class SourceFile:
    """`path` opens the file and names it in messages; `name` is its '/'-separated path relative to the source; `stops`
    is a .npy file of where its documents end, None where its text says so.
    """

    path: str
    name: str
    stops: str | None = None


def find_files(source: str) -> list[SourceFile]:
    """The files a source string stands for, sorted by name.

    Args:
      source: "stdlib" (the `*.py` files of the running Python's standard library, without its tests and without
        idlelib, lib2to3, turtledemo and site-packages), a file, a directory (every regular file below it; hidden ones
        and links to directories are left out) or a glob pattern, where "**" stands for any number of directories.
        A name that exists is taken as it is before it is read as a pattern; "~" is the home directory.

    Raises:
      FileNotFoundError: nothing is there, or a directory or pattern holds no file.
      OSError: a directory below cannot be listed.
    """
    path = os.path.expanduser(source)
    if source == "stdlib":
        found, problem = _stdlib(), "finds no Python source: this Python comes without them, give files of your own"
    elif os.path.isdir(path):
        found, problem = _below(path), "is a directory with no file in it (hidden ones do not count): put text there"
    elif os.path.isfile(path):
        found, problem = [SourceFile(path, os.path.basename(path))], ""
    elif glob.has_magic(path):
        found, problem = _matching(path), "matches no file: check the pattern ('**/*.txt' looks in all directories)"
    else:
        found, problem = [], "does not exist: give a file, a directory, a glob pattern or 'stdlib'"
    if not found:
        raise FileNotFoundError(f"data.source={source!r} {problem}")
    return sorted(found, key=lambda file: file.name)


def unreadable(error: OSError, path: str) -> OSError:
    """The same kind of error, as a sentence that names the config field and the file."""
    return type(error)(f"data.source: cannot read {path} ({error.strerror or error}): give a file you may read")


def _stdlib() -> list[SourceFile]:
    root = sysconfig.get_path("stdlib")
    return [
        SourceFile(os.path.join(root, name), name)
        for name in _walk(root, lambda directory: directory not in _STDLIB_SKIPPED)
        if name.endswith(".py")
    ]


def _below(root: str) -> list[SourceFile]:
    names = _walk(root, lambda directory: not directory.startswith("."))
    return [SourceFile(os.path.join(root, name), name) for name in names if not os.path.basename(name).startswith(".")]


def _matching(pattern: str) -> list[SourceFile]:
    """Names are relative to the last directory before the first wildcard."""
    root = pattern
    while glob.has_magic(root):
        root = os.path.dirname(root)
    paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    return [SourceFile(path, _relative(path, root)) for path in paths]


def _walk(root: str, enter: Callable[[str], bool]) -> Iterator[str]:
    """Relative names of the regular files below root, in no order; an unreadable directory is an error, not a gap."""
    for directory, below, names in os.walk(root, onerror=_raise):
        below[:] = filter(enter, below)
        for path in (os.path.join(directory, name) for name in names):
            if os.path.isfile(path):
                yield _relative(path, root)


def _relative(path: str, root: str) -> str:
    return os.path.relpath(path, root or ".").replace(os.sep, "/")


def _raise(error: OSError) -> None:
    raise unreadable(error, str(error.filename)) from error
