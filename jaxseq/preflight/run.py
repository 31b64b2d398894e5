"""The whole of a preflight: a config, a topology, and the figures of every program of the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jaxseq.compiled.chips import CHIPS, GPUS, TPU_ENVIRONMENT, devices
from jaxseq.experiment import Experiment
from jaxseq.preflight.hints import hints
from jaxseq.preflight.measure import measure
from jaxseq.preflight.programs import PROGRAMS, parameters, programs
from jaxseq.sharding import make_mesh


def preflight(
    config: Experiment, topology: str | None = None, *, slices: int = 1, only: Sequence[str] = PROGRAMS
) -> dict[str, Any]:
    """The figures of the train step, with those of the programs "prefill" and "decode" under their names.

    Args:
      config: of the run.
      topology: chip and layout of a slice, "v5p:8x8x8"; the config's if None.
      slices: of that layout, joined by a network, over which the mesh's data axis goes first.
      only: the programs to compile, of PROGRAMS, the first of which gives the figures at the top.

    Returns:
      topology, slices, chips, mesh, parameters; what `measure` says of the first program; `programs`, what it says of
      the others; `fits`, of all of them; `hints` where the train step does not fit.

    Raises:
      ValueError: a topology that is not known or not given, chips that the mesh does not divide, a batch or a parameter
        that the mesh does not divide.

    It must be called before anything else has used a device of this process: it turns to CPU whatever there is, and
    keeps what is compiled out of JAX's cache.
    """
    name = topology or config.topology
    if name is None or name in GPUS:
        raise ValueError(f"topology must be a TPU slice ({', '.join(CHIPS)}), for instance v5e:16x16, got {name}")
    prepare()
    mesh = chip_mesh(config.mesh, devices(name, slices))
    return examine(config, name, mesh, slices=slices, only=only)


def examine(
    config: Experiment, topology: str, mesh: Mesh, *, slices: int = 1, only: Sequence[str] = PROGRAMS
) -> dict[str, Any]:
    """As `preflight`, on a mesh of devices of the topology."""
    if not only or any(x not in PROGRAMS for x in only):
        raise ValueError(f"only must name some of {', '.join(PROGRAMS)}, got {', '.join(only) or 'none'}")
    chip, made = CHIPS[topology.split(":")[0]], programs(config, mesh)
    found = {name: measure(made[name], chip, mesh.size) for name in only}
    head = {"topology": topology, "slices": slices, "chips": mesh.size, "mesh": dict(mesh.shape)}
    head |= {"parameters": parameters(config), "program": only[0]}
    result = {**head, **found[only[0]], "programs": {name: found[name] for name in only[1:]}}
    result["fits"] = all(x["fits"] for x in found.values())
    if "train" in found and not found["train"]["fits"]:
        result["hints"] = hints(config, mesh, found["train"])
    return result


def chip_mesh(shape: tuple[int, int, int, int], found: Sequence[Any]) -> Mesh:
    """The mesh of a run over all devices. Raises ValueError as `make_mesh`, and for one that the layout cannot have."""
    try:
        return make_mesh(shape, list(found))
    except NotImplementedError as error:  # jax's: a mesh that is no product of the layout's axes
        raise ValueError(f"mesh {shape} must factor into the axes of the topology: {error}") from error


def prepare() -> None:
    """Turns this process to CPU, and keeps what is compiled out of JAX's cache."""
    os.environ.update(TPU_ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
