"""ParaRNN: any nonlinear cell, in a block that trains in parallel over time (arXiv 2510.21450, figure 9).

    x, z = W_x x, W_z x;   u = SiLU(conv(x));   h = solve(cell, u);   y = W_o (RMSNorm(h) SiLU(z))

The causal depthwise convolution has four taps and a bias; the norm is gated by the second branch. (The authors'
training code is followed where the figure is silent.)
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.cells import CELLS, Cell
from jaxseq.cells.recurrent import FORMS
from jaxseq.mixers.base import Mixer, linear, scale, short_conv
from jaxseq.ops import rms_norm
from jaxseq.sharding import param
from jaxseq.solvers import Auto, DampedNewton, FixedPoint, Newton, QuasiNewton, Sequential, Solution, Status, solve
from jaxseq.solvers.jacobian import largest_jacobian
from jaxseq.solvers.split import split_in_time
from jaxseq.solvers.structure import SHARDED

ITERATIVE: dict[str, type[Newton]] = {
    "newton": Newton,
    "quasi": QuasiNewton,
    "damped": DampedNewton,
    "fixed_point": FixedPoint,
}
SOLVERS = (*ITERATIVE, "sequential", "auto")


class ParaRNN(Mixer):
    """A cell between a convolution and a gated norm.

    Attributes:
      cell: a name in CELLS.
      recurrent: form of the recurrent maps of cells that have a choice: "diagonal" (channels do not mix over time:
        linear scans of a few numbers a step) or "dense" (they do, within a head).
      inner: width of the cell's input and state (default: width).
      heads: blocks of the cell's maps.
      conv_width: taps of the convolution.
      clip: bound on the cell's recurrent weights during training; "cell" for the cell's own recommendation, None for
        no bound.
      solver: "newton", "quasi", "damped" or "fixed_point" (parallel over time), "sequential", or "auto" (see `Auto`).
        With time split over devices "newton" and "auto" solve with one exchange per iteration; the others are correct,
        but move whole sequences.
      tolerance, max_iterations, on_failure: of all but "sequential", see `Newton`; None for the solver's own.
      window: of the parallel ones, see `Newton`.

    State: {"conv": (B, conv_width - 1, inner), "h": (B, inner) or a tuple of them, as the cell has it} float32. With
    `mutable=["diagnostics"]` the module reports over its sequences `iterations` (mean) and `iterations_max`,
    `converged` and `fell_back` (fractions), `residual` (max), see `Solution`; with `mutable=["stability"]`, which costs
    a pass over all steps, the largest `growth` and `jacobian` (`largest_jacobian`); with `mutable=["trace"]` it gives
    the `system` that it solves: (params, u, h0).
    """

    cell: str = "para_gru"
    recurrent: str = "diagonal"
    inner: int | None = None
    heads: int = 1
    conv_width: int = 4
    clip: float | str | None = "cell"
    solver: str = "newton"
    tolerance: float | None = None
    max_iterations: int | None = None
    window: int | None = None
    on_failure: str = "sequential"

    def make_cell(self) -> Cell:
        """The cell named by the fields."""
        for name, choices in (("cell", CELLS), ("recurrent", FORMS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("inner", "conv_width"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if isinstance(self.clip, str) and self.clip != "cell":
            raise ValueError(f'clip must be a number, None or "cell", got {self.clip!r}')
        if isinstance(self.clip, float | int) and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        inner, kind = self.inner or self.width, CELLS[self.cell]
        if "recurrent" in {field.name for field in fields(kind)}:
            return kind(inner, inner, heads=self.heads, recurrent=self.recurrent)  # pyright: ignore[reportCallIssue]
        if self.recurrent != "diagonal":
            raise ValueError(f"recurrent must be diagonal for the cell {self.cell}, got {self.recurrent!r}")
        return kind(inner, inner, heads=self.heads)

    def make_solver(self) -> Newton | Sequential | Auto:
        """The solver named by the fields."""
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")
        if self.solver == "sequential":
            return Sequential()
        if self.solver == "auto" and self.window is not None:
            raise ValueError(f"window must be None for the solver auto, got {self.window}")
        names = ("tolerance", "max_iterations", "window", "on_failure")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.solver == "newton" and split_in_time():
            given["method"] = SHARDED
        return Auto(**given) if self.solver == "auto" else ITERATIVE[self.solver](**given)

    def init_state(self, batch: int) -> dict[str, Any]:
        """Zeros for the convolution, the cell's own initial state."""
        h = self.make_cell().init_state(batch)
        return {"conv": jnp.zeros((batch, self.conv_width - 1, self.inner or self.width), jnp.float32), "h": h}

    @nn.compact
    def __call__(self, x, *, state=None, reset=None, mask=None):
        """See Mixer."""
        state = self.init_state(x.shape[0]) if state is None else state
        cell, inner = self.make_cell(), self.inner or self.width
        gate = linear(self, "w_z", x, inner, ("embed", "inner"))
        branch = linear(self, "w_x", x, inner, ("embed", "inner"))
        branch, conv = short_conv(self, branch, state["conv"], self.conv_width, reset=reset, mask=mask)
        params = self.param("cell", self._init_cell, cell)
        u = cell.inputs(params, nn.silu(branch))
        solution = solve(cell, params, u, state["h"], reset=reset, mask=mask, solver=self.make_solver())
        largest = largest_jacobian(cell, params, u, solution, state["h"], reset, mask)
        self._report(solution, largest)
        self.sow("trace", "system", (params, u, state["h"]))
        y = cell.output(params, solution.h, u).astype(x.dtype)
        y = rms_norm(y, scale(self, "norm", inner, "inner")) * nn.silu(gate)
        return linear(self, "w_o", y, self.width, ("inner", "embed")), {"conv": conv, "h": solution.final}

    def _init_cell(self, key: jax.Array, cell: Cell) -> dict[str, Any]:
        def declare(name: str, value: jax.Array) -> Any:
            axes = cell.axes().get(name, (None,) * value.ndim)
            return param(lambda _: value, *axes, decay=name in cell.decay, clip=self._bound(cell, name))(key)

        return {name: declare(name, value) for name, value in cell.init(key).items()}

    def _bound(self, cell: Cell, name: str) -> float | None:
        if name not in cell.clip or self.clip is None:
            return None
        return cell.clip[name] if isinstance(self.clip, str) else self.clip

    def _report(self, solution: Solution, jacobian: jax.Array) -> None:
        stable = {"growth": jnp.max(solution.growth), "jacobian": jnp.max(jacobian)}
        for collection, values in (("diagnostics", summary(solution)), ("stability", stable)):
            for name, value in values.items():
                value = value.astype(jnp.float32)
                self.sow(collection, name, value, init_fn=lambda: jnp.zeros(()), reduce_fn=lambda _, new: new)


def summary(solution: Solution) -> dict[str, jax.Array]:
    """The diagnostics of `ParaRNN`, scalars, from a solution."""
    iterations = solution.iterations.astype(jnp.float32)
    return {
        "iterations": jnp.mean(iterations),
        "iterations_max": jnp.max(iterations),
        "converged": jnp.mean(solution.converged),
        "fell_back": jnp.mean(solution.status == Status.FELL_BACK),
        "residual": jnp.max(solution.residual),
    }
