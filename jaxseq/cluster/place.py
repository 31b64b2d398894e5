"""Which process this is, and where the others are."""

from __future__ import annotations

import os
from typing import NamedTuple


class Place(NamedTuple):
    """This is process `process` of `processes`; process 0 listens at `coordinator`, "host:port"."""

    coordinator: str
    processes: int
    process: int


def find_place(coordinator: str | None, processes: int | None, process: int | None) -> Place | None:
    """The place given by arguments, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    None where nothing is given, and for one process. Raises ValueError where one of the three is missing, or does not
    fit.
    """
    address = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    n, i = _number(processes, "JAX_NUM_PROCESSES"), _number(process, "JAX_PROCESS_ID")
    if (address, n, i) == (None, None, None) or (n == 1 and i in (None, 0)):
        return None
    if address is None or n is None or i is None:
        raise ValueError(
            "coordinator, processes and process must be given together (as flags, or JAX_COORDINATOR_ADDRESS, "
            f"JAX_NUM_PROCESSES and JAX_PROCESS_ID), got {address}, {n} and {i}"
        )
    if not 0 <= i < n:
        raise ValueError(f"process must be from 0 to processes - 1, got {i} of {n}")
    if not address.rpartition(":")[2].isdigit():
        raise ValueError(f"coordinator must be host:port, got {address!r}")
    return Place(address, n, i)


def in_cluster() -> bool:
    """Whether this is one of several processes that JAX can find by itself: of Slurm, Open MPI, or a TPU pod."""
    env = os.environ
    hosts = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES") or ""
    slurm = "SLURM_STEP_NODELIST" in env and env.get("SLURM_NTASKS", "1") != "1"
    return slurm or env.get("OMPI_COMM_WORLD_SIZE", "1") != "1" or "," in hosts


def _number(value: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if value is not None or text is None:
        return value
    if not text.isdigit():
        raise ValueError(f"{variable} must be a number, got {text!r}")
    return int(text)
