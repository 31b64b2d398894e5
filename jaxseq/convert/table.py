"""A conversion as a table: which tensors of another library are which of our parameters, read both ways.

    TABLE = (
        same("a_log", "A_log"),
        matrix("w_o", "out_proj.weight"),
        joined(("w_x", "w_z"), "in_proj.weight"),
        taps("conv_w", "conv1d.weight"),
    )

`read(TABLE, tensors, shapes)` gives a mixer's parameters, `write(TABLE, params)` the tensors. Names on the left are
keys of a mixer's parameters, on the right of the other library's state dict, below whatever prefix it has there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxseq.convert.layout import to_numpy

Arrays = list[np.ndarray]


class Entry(NamedTuple):
    """Parameters `ours` and tensors `theirs` that hold the same numbers.

    Attributes:
      read: (their arrays, our shapes) -> our arrays, of whatever shape: they are given ours, if the sizes agree.
      write: our arrays -> their arrays.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[[Arrays, list[tuple[int, ...]]], Arrays]
    write: Callable[[Arrays], Arrays]


Table = Sequence[Entry]


def same(ours: str, theirs: str, shape: tuple[int, ...] | None = None) -> Entry:
    """The same numbers in the same order; `shape` is theirs where it differs from ours: (1, 1, -1)."""
    return Entry((ours,), (theirs,), lambda x, s: x, lambda x: [x[0] if shape is None else x[0].reshape(shape)])


def matrix(ours: str, theirs: str) -> Entry:
    """Our x W is their W x: (..., in, out) against (..., out, in)."""
    return Entry((ours,), (theirs,), lambda x, s: [_turn(x[0])], lambda x: [_turn(x[0])])


def taps(ours: str, theirs: str) -> Entry:
    """Taps of a depthwise convolution: (W, C) against torch's (C, 1, W)."""
    return Entry((ours,), (theirs,), lambda x, s: [x[0][:, 0].T], lambda x: [x[0].T[:, None]])


def shifted(ours: str, theirs: str, by: float) -> Entry:
    """Ours is theirs plus a number: gains that are stored as the difference from 1."""
    return Entry((ours,), (theirs,), lambda x, s: [x[0] + np.asarray(by, x[0].dtype)], lambda x: [x[0] - by])


def joined(ours: Sequence[str], theirs: str) -> Entry:
    """Several of our matrices, side by side in one of theirs: (in, n_i) each against (Σ n_i, in)."""
    return Entry(
        tuple(ours),
        (theirs,),
        lambda x, s: np.split(_turn(x[0]), np.cumsum([shape[-1] for shape in s])[:-1], axis=-1),
        lambda x: [_turn(np.concatenate(x, axis=-1))],
    )


def joined_vectors(ours: Sequence[str], theirs: str) -> Entry:
    """Several of our vectors (n_i,) end to end in one of theirs (Σ n_i,)."""
    return Entry(
        tuple(ours),
        (theirs,),
        lambda x, s: np.split(x[0], np.cumsum([shape[-1] for shape in s])[:-1]),
        lambda x: [np.concatenate(x)],
    )


def joined_taps(ours: Sequence[str], theirs: str) -> Entry:
    """Taps of several of our convolutions (W, C_i) in one of torch's (Σ C_i, 1, W)."""
    return Entry(
        tuple(ours),
        (theirs,),
        lambda x, s: np.split(x[0][:, 0].T, np.cumsum([shape[-1] for shape in s])[:-1], axis=-1),
        lambda x: [np.concatenate(x, axis=-1).T[:, None]],
    )


def separate_taps(ours: Sequence[str], theirs: Sequence[str]) -> Entry:
    """Taps of several of our convolutions (W, C_i), each in one of torch's (C_i, 1, W).

    Their bounds may lie elsewhere in the same order: transformers saves what it has joined in equal parts.
    """
    return Entry(
        tuple(ours),
        tuple(theirs),
        lambda x, s: np.split(np.concatenate(x)[:, 0].T, np.cumsum([shape[-1] for shape in s])[:-1], axis=-1),
        lambda x: [taps.T[:, None] for taps in x],
    )


def by_head(ours: Sequence[str], theirs: str, heads: int) -> Entry:
    """Several of our matrices (in, n) in one of theirs, head by head: q, k and v of head 0, of head 1, ..."""

    def read(arrays: Arrays, shapes: list[tuple[int, ...]]) -> Arrays:
        (joined,) = arrays
        parts = joined.reshape(heads, len(ours), -1, joined.shape[-1])
        return [parts[:, i].reshape(-1, joined.shape[-1]).T for i in range(len(ours))]

    def write(arrays: Arrays) -> Arrays:
        parts = [x.T.reshape(heads, -1, x.shape[0]) for x in arrays]
        return [np.stack(parts, axis=1).reshape(-1, arrays[0].shape[0])]

    return Entry(tuple(ours), (theirs,), read, write)


def under(ours: str, theirs: str, table: Table) -> Table:
    """The same table with names that begin with `ours` and `theirs`."""
    return tuple(
        Entry(tuple(ours + n for n in e.ours), tuple(theirs + n for n in e.theirs), e.read, e.write) for e in table
    )


def read(table: Table, tensors: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our parameters from their tensors.

    Args:
      table: every entry of it is read.
      tensors: torch's or numpy's by the names of the table.
      shapes: our parameters, abstract or not, by name: what has a `.shape`.

    Raises:
      ValueError: a tensor is missing, not in the table, or not of the size that our parameter has; a parameter is not
        in the table.
    """
    _complete("tensors", tensors, [name for entry in table for name in entry.theirs])
    _complete("parameters", shapes, [name for entry in table for name in entry.ours])
    params: dict[str, np.ndarray] = {}
    for entry in table:
        arrays = {name: to_numpy(tensors[name]) for name in entry.theirs}
        params |= read_entry(entry, arrays, {name: tuple(shapes[name].shape) for name in entry.ours})
    return params


def read_entry(
    entry: Entry, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> dict[str, np.ndarray]:
    """The parameters of one entry, in `shapes`, from its tensors; `prefix` is for the message.

    Raises ValueError for tensors that are not of the size that the parameters have.
    """
    found = entry.read([arrays[name] for name in entry.theirs], [shapes[name] for name in entry.ours])
    for name, array in zip(entry.ours, found, strict=True):
        if array.size != np.prod(shapes[name]):
            given = ", ".join(f"{prefix}{name} {array.shape}" for name, array in arrays.items())
            raise ValueError(f"{given} must make {name} of shape {shapes[name]}, gives {array.shape}")
    return {name: array.reshape(shapes[name]) for name, array in zip(entry.ours, found, strict=True)}


def write(table: Table, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Their tensors from our parameters: `read` gives the same parameters back. Raises ValueError as `read` does."""
    _complete("parameters", params, [name for entry in table for name in entry.ours])
    tensors: dict[str, np.ndarray] = {}
    for entry in table:
        made = entry.write([to_numpy(params[name]) for name in entry.ours])
        tensors |= {name: np.ascontiguousarray(array) for name, array in zip(entry.theirs, made, strict=True)}
    return tensors


def _turn(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def _complete(what: str, found: Mapping[str, Any], expected: list[str]) -> None:
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"the {what} must have {missing[0]}, got {', '.join(found) or 'none'}")
    if extra := [name for name in found if name not in expected]:
        raise ValueError(f"the {what} must be {', '.join(expected)} alone, got {extra[0]}")
