"""How the processes find each other: all others connect to process 0, which says who is missing."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

from jaxseq.cluster.place import Place

PATIENCE = 5.0  # seconds for an answer that should be immediate
Peers = dict[int, socket.socket]


def meet(place: Place, timeout: float, server: socket.socket | None = None) -> Peers:
    """This process's connections: to all others in process 0, to process 0 alone in the others.

    Raises TimeoutError, naming those that did not come within `timeout` seconds, and ConnectionError where process 0
    cannot listen at its address, or expects other processes.
    """
    deadline = time.monotonic() + timeout
    if place.process:
        return {0: _reach(place, deadline)}
    peers: Peers = {}
    try:
        with server or _listen_at(place.coordinator) as server:
            _await_all(place, peers, server, deadline, timeout)
    except OSError as error:
        tell(peers, f"failed {error}")
        for peer in peers.values():
            peer.close()
        raise
    tell(peers, "go")
    return peers


def _await_all(place: Place, peers: Peers, server: socket.socket, deadline: float, timeout: float) -> None:
    while len(peers) < place.processes - 1:
        server.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            peer, _ = server.accept()
        except TimeoutError:
            missing = [str(i) for i in range(1, place.processes) if i not in peers]
            raise TimeoutError(
                f"{len(peers) + 1} of {place.processes} processes came to {place.coordinator} within {timeout:g} s, "
                f"missing: {', '.join(missing)}"
            ) from None
        _welcome(place, peer, peers)


def _welcome(place: Place, peer: socket.socket, peers: Peers) -> None:
    peer.settimeout(PATIENCE)
    try:
        hello = re.fullmatch(r"hello (\d+) (\d+)", next(lines(peer), ""))
    except (OSError, UnicodeDecodeError):
        hello = None
    if hello is None:  # not one of us
        peer.close()
        return
    process, processes = int(hello[1]), int(hello[2])
    known = process in peers
    peers[-1 if known else process] = peer
    if processes != place.processes:
        raise ConnectionError(f"process {process} expects {processes} processes, process 0 expects {place.processes}")
    if known:
        raise ConnectionError(f"there are two processes {process}")


def _reach(place: Place, deadline: float) -> socket.socket:
    host, _, port = place.coordinator.rpartition(":")
    while True:
        try:
            peer = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                text = f"process {place.process} cannot reach process 0 at {place.coordinator} ({error})"
                raise TimeoutError(text) from error
            time.sleep(0.2)
    peer.sendall(f"hello {place.process} {place.processes}\n".encode())
    peer.settimeout(max(deadline - time.monotonic(), 0) + PATIENCE)
    word, _, text = next(lines(peer), "").partition(" ")
    if word != "go":
        peer.close()
        raise ConnectionError(text or f"process 0 at {place.coordinator} went away before all had come")
    return peer


def _listen_at(coordinator: str) -> socket.socket:
    try:
        return socket.create_server(("", int(coordinator.rpartition(":")[2])))
    except OSError as error:
        raise ConnectionError(f"process 0 cannot listen at {coordinator}: {error.strerror}") from error


def tell(peers: Peers, line: str) -> bool:
    """Sends a line to all; whether all could be told."""
    told = True
    for peer in peers.values():
        try:
            peer.sendall(f"{line}\n".encode())
        except OSError:
            told = False
    return told


def lines(peer: socket.socket) -> Iterator[str]:
    """What a peer says, to the end of the connection."""
    held = b""
    while data := peer.recv(4096):
        *whole, held = (held + data).split(b"\n")
        yield from (line.decode() for line in whole)
