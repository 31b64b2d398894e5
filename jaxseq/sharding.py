"""The mesh, a closed set of logical axis names, and how a parameter declares itself.

A mesh has four axes: `data` (replicas), `fsdp` (parameters and batch), `tensor` (width) and `seq` (time). One CPU is
the mesh 1 x 1 x 1 x 1. Modules name logical axes only; RULES maps them to mesh axes, and an unknown name raises.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import numpy as np
from flax import struct
from flax.core import meta
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "tensor", "seq")

RULES: dict[str, str | tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "time": "seq",
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "mlp": "tensor",
    "inner": "tensor",
    "heads": "tensor",
    "gate": None,
    "conv": None,
}


def make_mesh(shape: tuple[int, int, int, int] = (1, 1, 1, 1), devices: list[Any] | None = None) -> Mesh:
    """A mesh with axes (data, fsdp, tensor, seq) over `devices` (default: all of jax.devices()).

    One size may be -1: the rest of the devices. Of several TPU slices the data axis has a part in each, so that only
    sums of gradients go over the network between them. Raises ValueError where the product is not the number of
    devices, or the slices do not divide the data axis.
    """
    devices = jax.devices() if devices is None else devices
    if len(shape) != 4 or sum(n == -1 for n in shape) > 1 or any(n < 1 and n != -1 for n in shape):
        raise ValueError(f"mesh must be four sizes {MESH_AXES}, at most one of them -1, got {shape}")
    known = prod(n for n in shape if n != -1)
    sizes = tuple(len(devices) // known if n == -1 else n for n in shape)
    if prod(sizes) != len(devices):
        raise ValueError(f"mesh {shape} needs a multiple of {known} devices, there are {len(devices)}")
    slices = _by_slice(devices)
    if sizes[0] % len(slices):
        raise ValueError(f"mesh {shape}: the data axis must divide by the {len(slices)} slices, got {sizes[0]}")
    inside: Any = (sizes[0] // len(slices), *sizes[1:])
    types = (AxisType.Auto,) * 4
    meshes = [jax.make_mesh(inside, MESH_AXES, axis_types=types, devices=each) for each in slices]
    if len(meshes) == 1:
        return meshes[0]
    return Mesh(np.concatenate([mesh.devices for mesh in meshes]), MESH_AXES, axis_types=types)


def _by_slice(devices: list[Any]) -> list[list[Any]]:
    """The devices of each TPU slice; all others are one."""
    found: dict[int, list[Any]] = {}
    for device in devices:
        found.setdefault(getattr(device, "slice_index", 0) if device.platform == "tpu" else 0, []).append(device)
    return list(found.values())


def row_share(mesh: Mesh) -> tuple[int, int]:
    """(i, n): the devices of this process hold the i-th of n equal parts of a batch's rows.

    Processes that differ along tensor or seq alone hold the same part. Raises ValueError where the rows of this process
    are not such a part.
    """
    per_part = mesh.shape["tensor"] * mesh.shape["seq"]
    devices = enumerate(mesh.devices.flat)
    mine = sorted({i // per_part for i, device in devices if device.process_index == jax.process_index()})
    size, parts = len(mine), mesh.shape["data"] * mesh.shape["fsdp"]
    if parts % size or mine[0] % size or mine[-1] - mine[0] != size - 1:
        raise ValueError(f"mesh {dict(mesh.shape)}: rows of process {jax.process_index()} must be one part of equals")
    return mine[0] // size, parts // size


def spec(*axes: str | None) -> PartitionSpec:
    """The PartitionSpec of logical axes. Raises ValueError for a name that is not in RULES."""
    unknown = [a for a in axes if a is not None and a not in RULES]
    if unknown:
        raise ValueError(f"logical axis must be one of {', '.join(RULES)}, got {unknown[0]!r}")
    return PartitionSpec(*(None if a is None else RULES[a] for a in axes))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """x, laid out over the mesh in force as its logical axes say. Without a mesh there is nothing to lay out.

    An axis that the mesh does not divide is left whole: the single token of decoding, a batch of one.
    """
    wanted, mesh = spec(*axes), jax.sharding.get_abstract_mesh()
    if len(axes) != x.ndim:
        raise ValueError(f"constrain needs one axis name per axis of an array of shape {x.shape}, got {axes}")
    if mesh.empty:
        return x
    fits = (names if size % parts(mesh, names) == 0 else None for names, size in zip(wanted, x.shape, strict=True))
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*fits))


def parts(mesh: Any, axes: str | tuple[str, ...] | None) -> int:
    """Into how many parts these axes of a mesh split."""
    return prod(mesh.shape[name] for name in ((axes,) if isinstance(axes, str) else axes or ()))


class Declared(struct.PyTreeNode, meta.AxisMetadata):
    """A parameter with what its module says of it: logical axes, weight decay, and a bound on its entries."""

    value: Any
    axes: tuple[str | None, ...] = struct.field(pytree_node=False)
    decay: bool = struct.field(pytree_node=False, default=True)
    clip: float | None = struct.field(pytree_node=False, default=None)

    def unbox(self) -> Any:
        """The array itself."""
        return self.value

    def replace_boxed(self, val: Any) -> Declared:
        """The same declaration around another array."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> Declared:
        """What `nn.scan` calls: the stacked parameter has one more axis, `layers`."""
        axes = list(self.axes)
        axes.insert(index, params["axis"])
        return self.replace(axes=tuple(axes))

    def remove_axis(self, index: int, params: dict[Any, Any]) -> Declared:
        """The inverse of add_axis."""
        axes = list(self.axes)
        axes.pop(index)
        return self.replace(axes=tuple(axes))


def param(
    init: Callable[..., jax.Array], *axes: str | None, decay: bool | None = None, clip: float | None = None
) -> Callable[..., Any]:
    """An initialiser that also declares the parameter: `self.param("w", param(init, "embed", "mlp"), shape)`.

    It makes a Declared, of which flax hands the module the array.

    Args:
      init: (key, *args) -> array.
      axes: one logical axis name, or None, for each axis of the array.
      decay: whether weight decay applies; by default to arrays of two axes and more.
      clip: a bound v kept by the optimizer: every entry stays in [-v, v].

    Raises:
      ValueError: an unknown axis, or (when called) as many axes as the array does not have.
    """
    spec(*axes)
    decays = len(axes) >= 2 if decay is None else decay

    def declared(key: jax.Array, *args: Any) -> Declared:
        value = init(key, *args)
        if value.ndim != len(axes):
            raise ValueError(f"param needs one axis name per axis of an array of shape {value.shape}, got {axes}")
        # Not weakly typed, as jnp.full's is: after a step it would not be, and the next one would be compiled again.
        return Declared(value.astype(value.dtype), axes, decays, clip)

    return declared


def dotted(path: Any) -> str:
    """A path of jax.tree_util as a name: "layers.block_0.mixer.w_x"."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a nested dict, arrays or Declared, by dotted name."""
    return {dotted(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_declared)}


def is_declared(x: Any) -> bool:
    """Whether x is a Declared leaf (for jax.tree.map's is_leaf)."""
    return isinstance(x, Declared)


def shardings(mesh: Mesh, declared: Any) -> Any:
    """The NamedSharding of every Declared leaf of a tree, in a tree of the same shape.

    Raises ValueError where a mesh axis does not divide an axis of the parameter, naming both.
    """

    def one(path: Any, leaf: Declared) -> NamedSharding:
        wanted = spec(*leaf.axes)
        for name, size, mesh_axes in zip(leaf.axes, leaf.value.shape, wanted, strict=True):
            if size % parts(mesh, mesh_axes):
                names = mesh_axes if isinstance(mesh_axes, tuple) else (mesh_axes,)
                count = parts(mesh, mesh_axes)
                raise ValueError(
                    f"parameter {dotted(path)}: axis {name!r} of size {size} must divide by {count} ({names})"
                )
        return NamedSharding(mesh, wanted)

    return jax.tree_util.tree_map_with_path(one, declared, is_leaf=is_declared)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of an input batch: rows over the devices, time not yet split."""
    return NamedSharding(mesh, spec("batch"))
