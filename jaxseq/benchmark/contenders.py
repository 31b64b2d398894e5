"""What solvers are measured against, and with: one cell's states and gradients, solved or by autodiff."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.benchmark.ops_programs import Compiled
from jaxseq.solvers import solve

Contender = Callable[[Any, Any], "Result"]  # params, u -> Result


@partial(
    jax.tree_util.register_dataclass, data_fields=("h", "iterations", "residual", "prefix", "status"), meta_fields=()
)
@dataclass(frozen=True)
class Result:
    """States (B, T, D) or a tuple of them, and what a solver says of each row (B,), see `Solution`."""

    h: Any
    iterations: Any = 0
    residual: Any = 0.0
    prefix: Any = 0
    status: Any = 0


def by_solver(cell: Any, solver: Any) -> Contender:
    """The states as `solve` finds them."""

    def run(params: Any, u: Any) -> Result:
        found = solve(cell, params, u, solver=solver)
        return Result(found.h, found.iterations, found.residual, found.exact_prefix, found.status)

    return run


def by_lax_scan(cell: Any, unroll: int = 1) -> Contender:
    """The states by `lax.scan` over the inputs u, without resets, masks or certificates: what one writes by hand."""

    def run(params: Any, u: Any) -> Result:
        def body(h: Any, u_t: Any) -> tuple[Any, Any]:
            h = cell.step(params, h, u_t)
            return h, h

        time_major = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), u)
        h0 = cell.init_state(jax.tree.leaves(u)[0].shape[0])
        return Result(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), lax.scan(body, h0, time_major, unroll=unroll)[1]))

    return run


def with_gradients(run: Contender) -> Callable[[Any, Any], tuple[Result, Any]]:
    """(params, u) -> the result and the gradients of Σ sin h with respect to both."""

    def split(params: Any, u: Any) -> tuple[Any, Result]:
        result = run(params, u)
        return result.h, result

    def both(params: Any, u: Any) -> tuple[Result, Any]:
        h, pull, result = jax.vjp(split, params, u, has_aux=True)
        return result, pull(jax.tree.map(jnp.cos, h))

    return both


def compiled(function: Callable[..., Any], args: tuple[Any, ...]) -> Compiled:
    """The program for these arguments, with the seconds that tracing and compiling took."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    return Compiled(program, args, time.perf_counter() - began)
