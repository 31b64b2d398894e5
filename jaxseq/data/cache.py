"""Files that can be made again at any time, and files that are either whole or not there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_directory() -> Path:
    """$JAXSEQ_CACHE, or jaxseq below $XDG_CACHE_HOME or ~/.cache. All of it may be deleted while nothing runs."""
    if "JAXSEQ_CACHE" in os.environ:
        return Path(os.environ["JAXSEQ_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxseq"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; if it is not there, `make(folder)` fills an empty one that then gets the name.

    A folder of that name is whole, whatever was killed when. Two processes may make it at once: one of them is kept.
    """
    folder = cache_directory() / name
    if folder.is_dir():
        return folder
    half = folder.with_name(f"{folder.name}.tmp{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        make(half)
        half.rename(folder)
    except BaseException as error:
        shutil.rmtree(half, ignore_errors=True)
        if not (isinstance(error, OSError) and folder.is_dir()):  # another process was first
            raise
    return folder


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half of one."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with half.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
