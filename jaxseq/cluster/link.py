"""The connections that processes keep while they run, so that none of them waits for one that is gone.

JAX's own runtime ends a process from C++, with a stack trace, when another is lost, or lets it wait for minutes. Here
every process keeps a connection to process 0, over which it says that it is alive, that it failed and why, or that it
is done. Whoever hears of a failure ends at once, and process 0 alone says what happened, in one line.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax

from jaxseq.cluster.meeting import PATIENCE, Peers, lines, tell
from jaxseq.cluster.place import Place

BEAT, LOST = 2.0, 60.0  # seconds between signs of life, and after which a silent process is lost


class Link:
    """Watches this process's peers in threads. Messages are lines: "alive", "text JSON", "failed TEXT", "done".

    Attributes:
      advice: called when a process is lost; what it returns is added to the message.
    """

    def __init__(self, place: Place, peers: Peers):
        self.advice: Callable[[], str] = lambda: ""
        self._place, self._peers = place, peers
        self._verdict: str | None = None
        self._known = threading.Event()
        self._ending, self._sending = threading.Lock(), threading.Lock()
        self._texts: dict[int, queue.Queue[Any]] = {process: queue.Queue() for process in peers}
        self._ears = [threading.Thread(target=self._listen, args=each, daemon=True) for each in peers.items()]
        for thread in (*self._ears, threading.Thread(target=self._beat, daemon=True)):
            thread.start()

    def fail(self, error: BaseException) -> NoReturn:
        """Ends this process and the others, with exit code 1, for an exception here."""
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, jax.errors.JaxRuntimeError):  # most likely because another is gone, which is known soon
            self._known.wait(2 * PATIENCE)
            text = self._verdict or text
        if text != self._verdict and self._place.process:
            text = f"process {self._place.process}: {text}"
        self._end(text)

    def gather(self, text: str) -> list[str]:
        """A text of every process, in order of processes. All of them must call this, as often as each other."""
        if self._place.process:
            self._tell(f"text {json.dumps(text)}")
            return self._texts[0].get()
        found = [text, *(self._texts[process].get() for process in sorted(self._peers))]
        self._tell(f"text {json.dumps(found)}")
        return found

    def leave(self) -> None:
        """The regular end: waits until all processes are done."""
        self._tell("done")
        for thread in self._ears:
            thread.join()
        jax.distributed.shutdown()
        for peer in self._peers.values():
            peer.close()

    def _listen(self, process: int, peer: socket.socket) -> None:
        """What a peer says until it is done."""
        peer.settimeout(LOST)
        why = "it is gone"
        try:
            for line in lines(peer):
                word, _, text = line.partition(" ")
                if word == "done":
                    return
                if word == "failed":
                    return self._hear(text)
                if word == "text":
                    self._texts[process].put(json.loads(text))
        except TimeoutError:
            why = f"silent for {LOST:g} s"
        except OSError as error:
            why = error.strerror or why
        self._hear(f"process {process} of {self._place.processes} was lost ({why})")

    def _hear(self, text: str) -> None:
        self._verdict = self._verdict or text
        self._known.set()
        if not _is_loss(text):  # the same error comes up in every process, as a rule: then process 0 has its own words
            time.sleep(PATIENCE)
        self._end(self._verdict)

    def _beat(self) -> None:
        while self._tell("alive"):
            time.sleep(BEAT)

    def _tell(self, line: str) -> bool:
        with self._sending:
            return tell(self._peers, line)

    def _end(self, text: str) -> NoReturn:
        """Passes it on, says it where that is this process's part, and is gone."""
        self._ending.acquire()  # never released: one thread says it
        told = self._tell(f"failed {text}")
        if self._place.process == 0 or not told or text.startswith("process 0 "):
            print(f"error: {text}{self.advice() if _is_loss(text) else ''}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # a regular exit would wait in JAX's shutdown for the others


def _is_loss(text: str) -> bool:
    return " was lost (" in text
