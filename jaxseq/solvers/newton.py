"""All states at once, by Newton's method in delta form and its relatives.

    δ_t = A_t δ_{t-1} + F_t(h),  δ_0 = 0,      h <- h + δ

with A_t = J_t, the Jacobian, for Newton (DEER, Lim et al. 2023, arXiv 2309.12252; ParaRNN, arXiv 2510.21450), its
diagonal for the quasi-Newton method (Gonzalez et al. 2024, arXiv 2407.19115), J_t attenuated for the damped one (ELK,
the same), 0 for Jacobi and 1 for Picard. Each iteration is one evaluation of the cell over all steps and one linear
scan. A cell that is linear in its state needs one. ParaRNN stops after 3 without looking, DEER on small increments;
here a sequence has converged when its residual is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.linear_scan import linear_scan
from jaxseq.solvers.guess import GUESSES, first_guess
from jaxseq.solvers.iterate import Certificate, Progress, certify, iterate
from jaxseq.solvers.quasi import diagonal
from jaxseq.solvers.rescue import rescue
from jaxseq.solvers.search import search
from jaxseq.solvers.split import solve_split, split_in_time
from jaxseq.solvers.structure import SHARDED
from jaxseq.solvers.system import System, linearise, residual
from jaxseq.solvers.windows import in_windows

ON_FAILURE = ("sequential", "return", "raise")
TOLERANCE = {"float32": 1e-6, "float64": 1e-13}


@dataclass(frozen=True)
class Newton:
    """Newton iterations until the residual of a sequence is at most tolerance · max(1, max |h|).

    A sequence that has converged is left alone, and one that is no longer finite is given up: neither drives nor
    touches the others.

    Attributes:
      tolerance: bound on |step(h_{t-1}, u_t) - h_t|, relative to max |h| where that exceeds 1; None for 1e-6 in
        float32 and 1e-13 in float64.
      max_iterations: the budget. A small one (3, as in ParaRNN) with `on_failure="return"` is a truncated solve, whose
        residual says what is missing.
      method: the linear scan's, see `linear_scan`; or "sharded" for time split over the mesh axis "seq", see `split`.
      window: solve this many steps at a time, each from the exact state that the last ones left; None for all at once.
      guess: "step" for h_t = step(0, u_t), as in ParaRNN (appendix A.1), or "zeros", from where the first iteration is
        the linear recurrence with all gates frozen at zero.
      sweeps: Jacobi iterations, h_t <- step(h_{t-1}, u_t), before the first linear scan.
      scan_dtype: the Jacobians and residuals that enter the linear scan are rounded to it ("bfloat16"); residuals are
        still computed, and sums carried, in the state's own dtype.
      on_failure: for sequences that have not converged: "sequential" tries again with rejected steps, smaller windows,
        the cell's invariant set and damping, and steps through what is left; "return" returns them as they are, with
        `converged` False; "raise" raises FloatingPointError (when the values are known: under jit, from a callback).
    """

    tolerance: float | None = None
    max_iterations: int = 30
    method: str = "auto"
    window: int | None = None
    guess: str = "step"
    sweeps: int = 0
    scan_dtype: str | None = None
    on_failure: str = "sequential"
    searches: ClassVar[bool] = True  # before it steps through what is left

    def __post_init__(self) -> None:
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {self.tolerance}")
        for name, least in (("max_iterations", 1), ("window", 1), ("sweeps", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name, choices in (("guess", GUESSES), ("on_failure", ON_FAILURE), ("scan_dtype", (None, "bfloat16"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {getattr(self, name)!r}")

    def run(self, cell: Any, system: System, guess: Any = None) -> tuple[Any, Certificate]:
        """The states of the system and their certificate, from `guess` (B, T, D) if there is one."""
        guess = first_guess(cell, system, self.guess, self.sweeps) if guess is None else guess
        if self.method == SHARDED and split_in_time():
            return solve_split(self, cell, system, guess)
        return in_windows(partial(self._run, cell), self.window, system, guess)

    def linearise(self, cell: Any, system: System, h: Any) -> tuple[Any, Any]:
        """F(h) and A."""
        return linearise(cell, system, h)

    def increment(self, cell: Any, system: System, force: Any, jac: Any) -> Any:
        """δ."""
        return cell.structure.scan(*self._rounded((jac, force)), method=self.method)

    @property
    def linear_method(self) -> str:
        """The method of the linear recurrence of the derivatives."""
        return self.method

    def solve(self, cell: Any, system: System, guess: Any) -> Progress:
        """The iterations, without what follows a failure."""
        steps = partial(self.linearise, cell, system), partial(self.increment, cell, system)
        return iterate(*steps, guess, self.bound(system), self.max_iterations)

    def bound(self, system: System) -> Any:
        """The system's own tolerance, or else this solver's for states of that dtype."""
        if system.tolerance is not None:
            return system.tolerance
        name = jax.tree.leaves(system.h0)[0].dtype.name
        return TOLERANCE.get(name, TOLERANCE["float32"]) if self.tolerance is None else self.tolerance

    def _run(self, cell: Any, system: System, guess: Any) -> tuple[Any, Certificate]:
        progress = self.solve(cell, system, guess)
        tolerance = self.bound(system)
        certificate = certify(progress, tolerance)
        if self.on_failure != "sequential":
            return progress.h, certificate
        budget = 2 * self.max_iterations if self.searches else 0
        helped = partial(rescue, cell, tolerance, budget)
        return lax.cond(
            jnp.all(certificate.status == 0), lambda *args: (args[1].h, args[2]), helped, system, progress, certificate
        )

    def _rounded(self, tree: Any) -> Any:
        if self.scan_dtype is None:
            return tree
        kind = jnp.finfo(self.scan_dtype)
        return jax.tree.map(lambda x: lax.reduce_precision(x, kind.nexp, kind.nmant), tree)


@dataclass(frozen=True)
class QuasiNewton(Newton):
    """Newton with the diagonal of the Jacobian: linear scans of D numbers a step for cells whose states all mix.

    More iterations, each cheaper; the gradients are those of the true Jacobian all the same. (The released
    quasi-DEER differentiates through the diagonal, which is off by tens of percent.)
    """

    searches = False

    def linearise(self, cell: Any, system: System, h: Any) -> tuple[Any, Any]:
        """F(h) and the diagonal of J, a tree like h."""
        return diagonal(cell, system, h)

    def increment(self, cell: Any, system: System, force: Any, jac: Any) -> Any:
        """δ."""
        jac, force = self._rounded((jac, force))
        return jax.tree.map(lambda a, b: linear_scan(a, b, method=self.method), jac, force)


@dataclass(frozen=True)
class FixedPoint(Newton):
    """Jacobi (A = 0, "jacobi") or Picard (A = 1, "picard") iterations: no Jacobian at all, and many more of them.

    Attributes:
      kind: "jacobi" or "picard".
    """

    max_iterations: int = 200
    kind: str = "jacobi"
    searches = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("jacobi", "picard"):
            raise ValueError(f"kind must be jacobi or picard, got {self.kind!r}")

    def linearise(self, cell: Any, system: System, h: Any) -> tuple[Any, Any]:
        """F(h)."""
        return residual(cell, system, h), ()

    def increment(self, cell: Any, system: System, force: Any, jac: Any) -> Any:
        """δ."""
        if self.kind == "jacobi":
            return force
        one = lambda b: jnp.ones((1,) * b.ndim, b.dtype)  # noqa: E731
        return jax.tree.map(lambda b: linear_scan(one(b), b, reset=system.reset, method=self.method), force)


@dataclass(frozen=True)
class DampedNewton(Newton):
    """Newton with rejected steps, windows and adaptive damping from the start: Levenberg-Marquardt with a Kalman gain.

    Attributes:
      damping: the first one; 0 starts as Newton.
    """

    max_iterations: int = 100
    damping: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.damping >= 0:
            raise ValueError(f"damping must not be negative, got {self.damping}")

    def solve(self, cell: Any, system: System, guess: Any) -> Progress:
        """The iterations, without what follows a failure."""
        steps = partial(self.linearise, cell, system), partial(self.increment, cell, system)
        rows = jax.tree.leaves(guess)[0].shape[0]
        start = Progress(guess, jnp.zeros(rows, jnp.int32), steps[0](guess)[0])
        options = {"tolerance": self.bound(system), "budget": self.max_iterations, "damping": self.damping}
        project = getattr(cell, "project", lambda h: h)
        return search(cell.structure, *steps, project, start, **options)
