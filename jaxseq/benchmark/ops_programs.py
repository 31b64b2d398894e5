"""Every method and peer of a problem as a compiled program, and their times taken in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.benchmark.ops_problems import Problem
from jaxseq.benchmark.timing import device, medians, seconds
from jaxseq.ops.choice import MADE_OF, METHODS

PASSES = ("forward", "forward_backward")
ROUNDS = (3, 30)  # at least and at most


@dataclass
class Compiled:
    """A program with its arguments; calling it runs it."""

    program: Any
    args: tuple[Any, ...]
    seconds: float

    def __call__(self) -> Any:
        """The program's result."""
        return self.program(*self.args)


def methods_of(problem: Problem) -> list[str]:
    """What runs on this platform."""
    names = METHODS[MADE_OF.get(problem.op, problem.op)]
    return [name for name in names if ":" not in name or name == f"kernel:{jax.default_backend()}"]


def compile_pass(problem: Problem, name: str) -> dict[str, Compiled]:
    """All methods and peers of a problem, for one of PASSES."""
    functions = {method: (partial(problem.run, method), problem.inputs) for method in methods_of(problem)}
    wrap = both_ways if name == "forward_backward" else lambda function, inputs: (function, (inputs,))
    return {key: _compile(*wrap(*pair)) for key, pair in {**functions, **problem.peers()}.items()}


def in_turn(programs: dict[str, Compiled], budget: float) -> dict[str, float]:
    """Median seconds of each, in as many rounds as fit into the budget."""
    once = sum(seconds(program) for program in programs.values())
    return medians(dict(programs), int(np.clip(budget / once, *ROUNDS)))


def named_device() -> str:
    """The device, with the number of cores of a CPU."""
    return f"{device()}, {os.cpu_count()} cores" if jax.default_backend() == "cpu" else device()


def both_ways(function: Callable[[Any], jax.Array], inputs: Any) -> tuple[Callable[..., Any], tuple[Any, Any]]:
    """y and the gradients of the inputs for a random cotangent of y, and what they are made from."""
    y = jax.eval_shape(function, inputs)

    def both(inputs: Any, g: jax.Array) -> Any:
        y, pull = jax.vjp(function, inputs)
        return y, pull(g)[0]

    rng = np.random.default_rng(0)
    return both, (inputs, jnp.asarray(rng.standard_normal(y.shape)).astype(y.dtype))


def _compile(function: Callable[..., Any], args: tuple[Any, ...]) -> Compiled:
    began = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    return Compiled(program, args, time.perf_counter() - began)
