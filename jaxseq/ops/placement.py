"""How the arrays of the ops lie on a mesh, and functions of what one device holds of them.

The axes of an array are named by letters, "B T H K". Under `jax.set_mesh(mesh)` rows go over the mesh's `data` and
`fsdp`, channels and heads over `tensor`, and time over another axis where that is asked for. A mesh without one of
these axes does not split by it, nor does one that does not divide the size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

BATCH, WIDTH = ("data", "fsdp"), ("tensor",)
AXES = {"B": BATCH, "D": WIDTH, "G": WIDTH, "H": WIDTH}  # letter of an axis -> the mesh axes that may split it
Split = Mapping[str, tuple[str, ...]]  # letter -> the mesh axes that do


def mesh_in_force() -> Any:
    """The mesh to split over; None without one, or inside a function that sees one device's part already."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or AxisType.Manual in mesh.axis_types or mesh.size == 1 else mesh


def parts(mesh: Any, axes: tuple[str, ...]) -> int:
    """Into how many parts these mesh axes split."""
    return prod(mesh.shape.get(name, 1) for name in axes)


def splits(axis: str, time: int) -> bool:
    """Whether the mesh in force splits this many steps over `axis`: a single one it does not."""
    mesh = mesh_in_force()
    return time > 1 and mesh is not None and parts(mesh, (axis,)) > 1


def steps(args: Any, letters: Any) -> int:
    """T, of arrays with these axes."""
    pairs = zip(jax.tree.leaves(args), jax.tree.leaves(letters), strict=True)
    return max(x.shape[names.split().index("T")] for x, names in pairs if "T" in names.split())


def check_divides(axes: tuple[str, ...], time: int) -> None:
    """Raises ValueError if the devices of these axes of the mesh in force do not divide T."""
    count = parts(mesh_in_force(), axes)
    if time % count:
        raise ValueError(f"T must divide by {count}, the devices of the mesh axis {', '.join(axes)}, got {time}")


def per_device(function: Callable[..., Any], args: Any, letters: Any, results: Any, time: tuple[str, ...] = ()) -> Any:
    """function(*args), run on every device's part of `args`; without a mesh in force a plain call.

    Args:
      function: of one device's part of the arguments.
      args: a tuple of trees of arrays.
      letters: the same trees with the axes of every array. An axis of size 1 is shared by all devices.
      results: the axes of every result.
      time: the mesh axes that split T.

    Raises:
      ValueError: `time` does not divide T.
    """
    mesh = mesh_in_force()
    if mesh is None:
        return function(*args)
    split = _split(mesh, args, letters, time)
    specs = jax.tree.map(lambda x, names: _spec(split, names, x.shape), args, letters)
    out_specs = jax.tree.map(lambda names: _spec(split, names), results)
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=False)(*args)


def _split(mesh: Any, args: Any, letters: Any, time: tuple[str, ...]) -> Split:
    sizes: dict[str, int] = {}
    for x, names in zip(jax.tree.leaves(args), jax.tree.leaves(letters), strict=True):
        for letter, size in zip(names.split(), x.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    wanted = {letter: time if letter == "T" else AXES.get(letter, ()) for letter in sizes}
    wanted = {letter: tuple(name for name in axes if name in mesh.shape) for letter, axes in wanted.items()}
    check_divides(time, sizes["T"])
    split = {letter: axes for letter, axes in wanted.items() if axes and sizes[letter] % parts(mesh, axes) == 0}
    if "H" in split and "G" not in split and sizes.get("G", 1) > 1:
        del split["H"]  # the heads of v would part from those of q and k that they belong to
    return split


def _spec(split: Split, letters: str, shape: tuple[int, ...] | None = None) -> PartitionSpec:
    names = letters.split()
    whole = [False] * len(names) if shape is None else [size == 1 for size in shape]
    return PartitionSpec(*(None if one else split.get(x) for x, one in zip(names, whole, strict=True)))
