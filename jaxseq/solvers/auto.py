"""The solver that is fastest for a cell at a shape, by platform, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.by_platform import by_platform
from jaxseq.ops.checks import check_choice
from jaxseq.ops.choice import PLATFORMS
from jaxseq.solvers.fused import FusedNewton
from jaxseq.solvers.heads import Heads
from jaxseq.solvers.iterate import Certificate
from jaxseq.solvers.newton import Newton
from jaxseq.solvers.sequential import Sequential, is_channelwise
from jaxseq.solvers.split import split_in_time
from jaxseq.solvers.structure import SHARDED
from jaxseq.solvers.system import System, length

LARGEST_HEAD = 16  # states that mix, up to which composing K x K matrices may pay
FEW_LANES = {"gpu": 16384, "tpu": 128}  # B · D up to which Newton is taken: a sequential kernel's chain of steps binds


@dataclass(frozen=True)
class Auto:
    """`Sequential` (fused where there is a kernel), or `Newton` in windows or over all steps, see `explain`.

    With time split over the mesh axis "seq" it is sequence-parallel Newton.

    Attributes:
      tolerance, max_iterations, on_failure: Newton's.
    """

    tolerance: float | None = None
    max_iterations: int = 30
    on_failure: str = "sequential"

    def run(self, cell: Any, system: System, guess: Any = None) -> tuple[Any, Certificate]:
        """The states of the system and their certificate."""
        lanes, time = jax.tree.leaves(system.h0)[0].size, length(system)
        fits = is_channelwise(cell, system) and jax.tree.leaves(system.h0)[0].dtype == jnp.float32
        fits &= system.tolerance is None
        solvers = {platform: self.choose(cell, lanes, time, platform, fits)[0] for platform in PLATFORMS}
        if len(set(solvers.values())) == 1:
            return solvers["cpu"].run(cell, system, guess)
        branches = {PLATFORMS[name]: partial(solver.run, cell) for name, solver in solvers.items()}
        return by_platform(branches, system, guess)

    @property
    def linear_method(self) -> str:
        """The method of the linear recurrence of the derivatives."""
        return SHARDED if split_in_time() else "auto"

    def steps(self, cell: Any) -> bool:
        """Whether it steps through states that mix on every platform, so that nothing needs their Jacobians."""
        mixing = isinstance(cell.structure, Heads) and not _small(cell.structure.size)
        return mixing and not split_in_time()

    def choose(self, cell: Any, lanes: int, time: int, platform: str, fits: bool = True) -> tuple[Any, str]:
        """The solver and the reason for it, for B · D = `lanes` channels and `time` steps that fit a kernel or not."""
        newton = partial(Newton, self.tolerance, self.max_iterations, on_failure=self.on_failure)
        if split_in_time():
            return newton(method=SHARDED), "time is split over devices: one exchange per iteration"
        if platform == "cpu":
            return Sequential(), "no Newton method is faster at any shape of `python launch/benchmark.py solvers`"
        if isinstance(cell.structure, Heads):
            return _mixing(newton, cell.structure.size)
        if platform == "tpu" and lanes <= FEW_LANES["tpu"] and fits and self.on_failure == "sequential":
            reason = (
                f"up to {FEW_LANES['tpu']} lanes windows of Newton take half the instructions (compiled, not timed)"
            )
            return FusedNewton(self.tolerance or 1e-6), reason
        if platform == "gpu" and lanes <= FEW_LANES["gpu"]:
            return newton(), f"up to {FEW_LANES['gpu']} lanes a step's latency binds, not the memory (estimated)"
        return Sequential(), "the fused kernel reads u once and writes h once (compiled, not timed)"


def explain(cell: Any, batch: int, time: int, platform: str | None = None) -> str:
    """What `Auto()` takes for a cell at (B, T), and why.

    Args:
      cell: any cell.
      batch, time: B and T.
      platform: "cpu", "tpu" or "gpu"; the one that jax runs on if None.

    Raises:
      ValueError: a platform that is not known.
    """
    platform = jax.default_backend() if platform is None else platform
    check_choice("platform", platform, tuple(PLATFORMS))
    state = jax.tree.leaves(jax.eval_shape(lambda: cell.init_state(batch)))[0]
    solver, reason = Auto().choose(cell, state.size, time, platform)
    return f"{type(cell).__name__} at B = {batch}, T = {time}, {state.size} lanes on {platform}: {solver}: {reason}"


def _mixing(newton: Callable[..., Newton], size: int | None) -> tuple[Any, str]:
    if _small(size):
        return newton(), f"heads of at most {LARGEST_HEAD} channels: matrices small enough to compose (estimated)"
    return Sequential(), f"over {LARGEST_HEAD} channels mix: composing their matrices costs more than steps (estimated)"


def _small(size: int | None) -> bool:
    return size is not None and size <= LARGEST_HEAD
