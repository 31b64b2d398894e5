"""ParaRNN: any nonlinear cell, in a block that trains in parallel over time (arXiv 2510.21450, figure 9).

    x, z = W_x x, W_z x;   u = SiLU(conv(x));   h = solve(cell, u);   y = W_o (RMSNorm(h) SiLU(z))

The causal depthwise convolution has four taps and a bias; the norm is gated by the second branch. (The authors'
training code is followed where the figure is silent.)
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseq.cells import CELLS, Cell
from jaxseq.mixers.base import Mixer, as_state, linear, scale
from jaxseq.ops import causal_conv, rms_norm
from jaxseq.sharding import param
from jaxseq.solvers import Newton, Sequential, solve

SOLVERS = ("newton", "sequential")


class ParaRNN(Mixer):
    """A cell between a convolution and a gated norm.

    Attributes:
      cell: a name in CELLS.
      inner: width of the cell's input and state (default: width).
      heads: blocks of the cell's input map.
      conv_width: taps of the convolution.
      clip: bound on the cell's recurrent weights during training; "cell" for the cell's own recommendation, None for
        no bound.
      solver: "newton" (parallel over time) or "sequential".
      tolerance, max_iterations: Newton's, see `Newton`.

    State: {"conv": (B, conv_width - 1, inner), "h": (B, *cell state)} float32. With `mutable=["diagnostics"]` the
    module reports `iterations` (mean over sequences) and `converged` (fraction of sequences).
    """

    cell: str = "para_gru"
    inner: int | None = None
    heads: int = 1
    conv_width: int = 4
    clip: float | str | None = "cell"
    solver: str = "newton"
    tolerance: float = 1e-6
    max_iterations: int = 30

    def make_cell(self) -> Cell:
        """The cell named by the fields."""
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        for name in ("inner", "conv_width"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if isinstance(self.clip, str) and self.clip != "cell":
            raise ValueError(f'clip must be a number, None or "cell", got {self.clip!r}')
        if isinstance(self.clip, float | int) and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        inner = self.inner or self.width
        return CELLS[self.cell](inner, inner, heads=self.heads)

    def make_solver(self) -> Newton | Sequential:
        """The solver named by the fields."""
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")
        return Newton(self.tolerance, self.max_iterations) if self.solver == "newton" else Sequential()

    def init_state(self, batch: int) -> dict[str, jax.Array]:
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
        branch, conv = self._convolve(branch, state["conv"], reset, mask)
        params = self.param("cell", self._init_cell, cell)
        u = cell.inputs(params, nn.silu(branch))
        solution = solve(cell, params, u, state["h"], reset=reset, mask=mask, solver=self.make_solver())
        self._report(solution)
        y = cell.output(params, solution.h, u).astype(x.dtype)
        y = rms_norm(y, scale(self, "norm", inner, "inner")) * nn.silu(gate)
        return linear(self, "w_o", y, self.width, ("inner", "embed")), {"conv": as_state(conv), "h": solution.final}

    def _convolve(self, x: jax.Array, state: jax.Array, reset: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
        init = nn.initializers.normal(self.conv_width**-0.5)
        w = self.param("conv_w", param(init, "conv", "inner", decay=False), (self.conv_width, x.shape[-1]))
        b = self.param("conv_b", param(nn.initializers.zeros, "inner"), (x.shape[-1],))
        return causal_conv(x, w, b, state, reset=reset, mask=mask)

    def _init_cell(self, key: jax.Array, cell: Cell) -> dict[str, Any]:
        def declare(name: str, value: jax.Array) -> Any:
            axes = cell.axes().get(name, (None,) * value.ndim)
            return param(lambda _: value, *axes, decay=name in cell.decay, clip=self._bound(cell, name))(key)

        return {name: declare(name, value) for name, value in cell.init(key).items()}

    def _bound(self, cell: Cell, name: str) -> float | None:
        if name not in cell.clip or self.clip is None:
            return None
        return cell.clip[name] if isinstance(self.clip, str) else self.clip

    def _report(self, solution: Any) -> None:
        for name in ("iterations", "converged"):
            value = jnp.mean(getattr(solution, name).astype(jnp.float32))
            self.sow("diagnostics", name, value, init_fn=lambda: jnp.zeros(()), reduce_fn=lambda _, new: new)
