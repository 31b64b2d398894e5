"""A run of several processes, from their meeting to their end, and what they tell each other in between."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils  # collectives between processes have no other public place

from jaxseq.cluster.link import LOST, Link
from jaxseq.cluster.meeting import meet
from jaxseq.cluster.place import Place, in_cluster

_links: list[Link] = []  # the one of this process, while there is one


@contextmanager
def joined(place: Place | None, timeout: float = 300.0, debug: bool = False) -> Iterator[None]:
    """Connects the processes, before any use of a device, and ends them together.

    With `place` None there is one process, and this does nothing, unless the environment is a cluster's. In a run of
    several, an exception inside ends every process with exit code 1 and one line from process 0 (with `debug`, a
    traceback besides), and so does the loss of a process.

    Raises what `meet` raises, before anything is connected.
    """
    if place is None and not in_cluster():
        yield
        return
    link = _connect(place, timeout)
    _links.append(link)
    try:
        yield
    except BaseException as error:  # whatever it is, the others must hear of it
        if debug:
            traceback.print_exc()
        link.fail(error)
    link.leave()
    _links.clear()


def advise(advice: Callable[[], str]) -> None:
    """Sets what is added to the message when a process is lost; called then, from another thread."""
    for link in _links:
        link.advice = advice


def gather(text: str) -> list[str]:
    """A text of every process, in order of processes. All of them must call this.

    Raises RuntimeError where there are several processes that are not `joined`.
    """
    if jax.process_count() == 1:
        return [text]
    if not _links:
        raise RuntimeError(f"{jax.process_count()} processes must be connected by jaxseq.cluster.joined")
    return _links[0].gather(text)


def compile_together(function: Any, *args: Any) -> None:
    """With several processes: compiles a jitted function in all of them before any calls it with such arguments.

    On CPU the first collectives of a program give the slowest process 30 s to come, and compiling may differ by more.
    """
    if jax.process_count() > 1:
        function.lower(*args).compile()
        gather("compiled")


def _connect(place: Place | None, timeout: float) -> Link:
    if place is None:
        jax.distributed.initialize(initialization_timeout=int(timeout))
        return _link_afterwards(timeout)
    peers = meet(place, timeout)  # JAX's own meeting ends in a stack trace where one is missing
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        initialization_timeout=int(timeout),
        shutdown_timeout_seconds=int(LOST),
        cluster_detection_method="deactivate",
    )
    return Link(place, peers)


def _link_afterwards(timeout: float) -> Link:
    """Of processes that JAX has brought together: process 0 takes a free port and tells it."""
    server = None if jax.process_index() else socket.create_server(("", 0))
    here = f"{socket.gethostbyname(socket.gethostname())}:{server.getsockname()[1]}" if server else ""
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(here.ljust(256).encode(), np.uint8))
    place = Place(bytes(told).decode().strip(), jax.process_count(), jax.process_index())
    return Link(place, meet(place, timeout, server))
