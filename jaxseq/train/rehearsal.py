"""A rehearsal of a pod on one machine: several processes train, one is preempted, others go on in other numbers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).parents[2] / "launch" / "train.py"
TOLERANCE = 2e-5  # of losses, relative: sums over devices are taken in another order
TINY = (
    "model.pattern=min_gru", "model.layers=1", "model.width=16", "data.length=32", "data.batch=8",
    "data.piece_bytes=1024", "optim.warmup=2",
    "train.sample_tokens=0", "train.eval_every=0", "train.log_every=1",
)  # fmt: skip


class Processes:
    """The processes of one run on this machine, each with so many virtual CPU devices.

    Their output is in logs/<process>.out and .err. Use as a context: at its end, none of them is left.
    """

    def __init__(self, processes: int, devices: int, flags: Iterable[str], logs: Path, script: Path = LAUNCH):
        logs.mkdir(parents=True, exist_ok=True)
        self._logs, self._running = logs, []
        place = [f"--processes={processes}", f"--coordinator=127.0.0.1:{free_port()}"] if processes > 1 else []
        for i in range(processes):
            own = [*place, f"--process={i}"] if place else []
            self._running.append(self._start([str(script), *flags, *own], devices, i))

    def _start(self, command: list[str], devices: int, process: int) -> subprocess.Popen[bytes]:
        given = os.environ.get("XLA_FLAGS", "")  # of two counts the last one holds
        own = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{given} --xla_force_host_platform_device_count={devices}"}
        with (self._logs / f"{process}.out").open("wb") as out, (self._logs / f"{process}.err").open("wb") as err:
            own["PYTHONPATH"] = str(LAUNCH.parents[1])
            return subprocess.Popen([sys.executable, *command], env=os.environ | own, stdout=out, stderr=err)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def send(self, process: int, number: int) -> None:
        """A signal to one of them."""
        self._running[process].send_signal(number)

    def wait(self, timeout: float = 600) -> list[int]:
        """Their exit codes. Raises TimeoutError, with what they said, where one does not end."""
        deadline = time.monotonic() + timeout
        try:
            return [process.wait(max(deadline - time.monotonic(), 0.01)) for process in self._running]
        except subprocess.TimeoutExpired:
            said = "\n".join(self.said(i) for i in range(len(self._running)))
            raise TimeoutError(f"the processes did not end within {timeout:g} s:\n{said}") from None

    def said(self, process: int, stream: str = "err") -> str:
        """What one of them has written to "out" or "err"."""
        return (self._logs / f"{process}.{stream}").read_text(errors="replace")

    def until(self, reached: Callable[[], bool], timeout: float = 600) -> None:
        """Waits for something. Raises TimeoutError where a process ends first, or it takes too long."""
        deadline = time.monotonic() + timeout
        while not reached():
            ended = [i for i, process in enumerate(self._running) if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                what = f"process {ended[0]} ended early" if ended else f"nothing within {timeout:g} s"
                raise TimeoutError(f"{what}: {self.said((ended or [0])[0])}")
            time.sleep(0.01)


def rows(workdir: Path) -> dict[int, dict[str, Any]]:
    """The whole lines of metrics.jsonl by step."""
    metrics = workdir / "metrics.jsonl"
    text = metrics.read_text() if metrics.exists() else ""
    return {row["step"]: row for row in map(json.loads, text[: text.rfind("\n") + 1].splitlines())}


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def deviation(workdir: Path, other: Path) -> float:
    """The largest relative deviation of the losses of two runs. Raises ValueError where steps or batches differ."""
    a, b = rows(workdir), rows(other)
    if a.keys() != b.keys():
        raise ValueError(f"{workdir} and {other} have logged other steps: up to {max(a)} and {max(b)}")
    different = [step for step in a if a[step]["batch"] != b[step]["batch"]]
    if different:
        raise ValueError(f"{workdir} and {other} saw other batches, first in step {different[0]}")
    return max(abs(a[step]["loss"] / b[step]["loss"] - 1) for step in a)


def rehearse(folder: Path, source: str, steps: int, say: Callable[[str], None]) -> None:
    """Trains without interruption, on 1 process of 8 devices, and then again: 2 processes of 4 devices, of which one is
    preempted; 1 of 8, preempted too; 4 of 2, to the end.

    Says what happened, a line each. Raises ValueError, and TimeoutError, where anything is not as it should be.
    """
    whole, pod = folder / "whole", folder / "pod"
    flags = [f"--config={LAUNCH.parents[1] / 'configs' / 'quickstart.py'}"]
    flags += [f"--set={text}" for text in (*TINY, f"data.source={source}", f"train.steps={steps}")]
    say(_stage(1, 8, flags, whole, preempt=False))
    for processes, devices, preempt in ((2, 4, True), (1, 8, True), (4, 2, False)):
        say(_stage(processes, devices, flags, pod, preempt))
    worst = deviation(pod, whole)
    if not worst <= TOLERANCE:
        raise ValueError(f"losses deviate by {worst:.1e} from the uninterrupted run, more than {TOLERANCE:.0e}")
    say(f"all {steps} batch fingerprints agree with the uninterrupted run, losses to {worst:.1e}")


def _stage(processes: int, devices: int, flags: list[str], workdir: Path, preempt: bool) -> str:
    """Runs to the end, or sends SIGTERM to the last process once a step is logged."""
    began, first = time.monotonic(), max(rows(workdir), default=0)
    logs = workdir.parent / f"{workdir.name}-{processes}x{devices}"
    with Processes(processes, devices, [*flags, f"--workdir={workdir}"], logs) as running:
        if preempt:
            running.until(lambda: max(rows(workdir), default=0) > first)
            running.send(processes - 1, signal.SIGTERM)
        codes = running.wait()
        if any(codes):
            raise ValueError(f"exit codes {codes}: {running.said(0)}")
        if preempt and "SIGTERM" not in running.said(0, "out"):
            raise ValueError(f"SIGTERM came too late, after {max(rows(workdir))} steps: more steps are needed")
    how = f"stopped by SIGTERM to process {processes - 1}, saved" if preempt else "to the end"
    passed = time.monotonic() - began
    return f"{processes} x {devices} devices: steps {first + 1} to {max(rows(workdir))}, {how} ({passed:.0f} s)"
