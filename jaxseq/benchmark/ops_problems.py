"""The shapes and random inputs at which the ops are measured, and what runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import ops
from jaxseq.benchmark import ops_peers
from jaxseq.ops import reference

Inputs = dict[str, Any]
MATRIX = (2, 2048, 4, 64, 64)  # B T H V K
WIDE = (2, 512, 8, 128, 128)
ROWS, STEPS = 1, 64  # of the part that is compared with the reference


@dataclass(frozen=True)
class Problem:
    """An op at one shape. `shape` is what chooses the method there; `inputs` have B and T first, but for `params`.

    Functions map inputs to y (B, T, ...): `run` takes the method first, `exact` is the reference. `step` and `start`
    make a `lax.scan` over the inputs in time-major order; `start` is the state for so many rows.
    """

    op: str
    variant: str
    shape: tuple[int, ...]
    inputs: Inputs
    run: Callable[[str, Inputs], jax.Array]
    exact: Callable[[Inputs], jax.Array]
    step: ops_peers.Step
    start: Any
    dtype: str = "float32"

    def peers(self) -> dict[str, tuple[Callable[[Inputs], jax.Array], Inputs]]:
        """By name, what else computes y and from what."""
        stepped = {"lax_scan": (partial(ops_peers.by_steps, self.step, self.start), time_major(self.inputs))}
        if self.op != "linear_scan":
            return stepped
        return {**stepped, "associative_scan": (ops_peers.by_halves, self.inputs), "copy": (ops_peers.add, self.inputs)}

    def part(self) -> Inputs:
        """The first steps of the first row."""
        cut = lambda x: x[: min(ROWS, x.shape[0]), : min(STEPS, x.shape[1])]  # noqa: E731
        return {name: x if name == "params" else jax.tree.map(cut, x) for name, x in self.inputs.items()}


def problems(op: str = "") -> Iterator[Problem]:
    """All of them, or those of one op, one at a time: their arrays are large. Raises ValueError for an unknown op."""
    if op and op not in MAKERS:
        raise ValueError(f"op must be one of {', '.join(MAKERS)}, got {op!r}")
    for name, makers in MAKERS.items():
        if op in ("", name):
            yield from (make() for make in makers)


def time_major(inputs: Inputs) -> Inputs:
    """The inputs with T before B."""
    turn = partial(jnp.moveaxis, source=1, destination=0)
    return {name: x if name == "params" else jax.tree.map(turn, x) for name, x in inputs.items()}


def linear(shape: tuple[int, ...], decay: tuple[int, ...] | None = None, kind: str = "float32") -> Problem:
    """linear_scan; `decay` is the shape of a if it is not b's, `kind` the dtype of b."""
    b = normal(0, shape, kind)
    a = 0.5 + 0.5 * jax.nn.sigmoid(normal(1, decay or shape))
    if kind == "complex64":
        a = a * jnp.exp(1j * normal(2, a.shape))
    variant = "varying" if decay is None else "constant"
    start = jnp.zeros((shape[0], *shape[2:]), a.dtype)
    named = _named("linear_scan")
    return Problem("linear_scan", variant, shape, {"a": a, "b": b}, *named, ops_peers.linear, start, kind)


def block(shape: tuple[int, ...]) -> Problem:
    """block_scan at (B, T, G, K), with matrices that keep the state bounded."""
    matrices = normal(1, (*shape, shape[-1])) * (0.5 / shape[-1] ** 0.5)
    inputs = {"A": matrices, "b": normal(0, shape)}
    return Problem(
        "block_scan", "varying", shape, inputs, *_named("block_scan"), ops_peers.block, inputs["b"][:, 0] * 0
    )


def coupled(shape: tuple[int, ...]) -> Problem:
    """coupled_scan at (B, T, D, K): the problem of `block` with an array for every entry."""
    inputs = block(shape).inputs
    split = lambda x: tuple(x[..., i] for i in range(shape[-1]))  # noqa: E731
    inputs = {"A": tuple(zip(*map(split, split(inputs["A"])), strict=True)), "b": split(inputs["b"])}
    start = tuple(x[:, 0] * 0 for x in inputs["b"])

    def run(method: str, x: Inputs) -> jax.Array:
        return jnp.stack(ops.coupled_scan(**x, method=method), axis=-1)

    def exact(x: Inputs) -> jax.Array:
        return reference.block_scan(jnp.stack([jnp.stack(row, -1) for row in x["A"]], -2), jnp.stack(x["b"], -1))

    return Problem("coupled_scan", "varying", shape[:-1], inputs, run, exact, ops_peers.coupled, start)


def logarithmic(shape: tuple[int, ...]) -> Problem:
    """log_linear_scan."""
    inputs = {"log_a": jax.nn.log_sigmoid(normal(1, shape) + 2), "log_b": normal(0, shape)}
    start = jnp.full_like(inputs["log_b"][:, 0], -1e30)
    return Problem(
        "log_linear_scan", "varying", shape, inputs, *_named("log_linear_scan"), ops_peers.logarithmic, start
    )


def softmax(shape: tuple[int, ...]) -> Problem:
    """softmax_scan at (B, T, H, V)."""
    inputs = {"s": normal(1, shape[:3]), "v": normal(0, shape)}
    flat = jnp.zeros((shape[0], shape[2]))
    start = (flat - 1e30, flat, jnp.zeros((shape[0], *shape[2:])))
    return Problem("softmax_scan", "plain", shape, inputs, *_named("softmax_scan"), ops_peers.softmax, start)


def attention(op: str, step: ops_peers.Step, decay: str, shape: tuple[int, ...] = MATRIX) -> Problem:
    """An op with a matrix state, with no decay, one per head ("scalar") or one per key channel ("vector")."""
    batch, time, heads, columns, size = shape
    q, k = normal(0, (batch, time, heads, size)) * size**-0.5, unit(normal(1, (batch, time, heads, size)))
    inputs = {"q": q, "k": k, "v": normal(2, shape[:4])}
    if decay != "none":
        inputs["log_a"] = jax.nn.log_sigmoid(normal(3, shape[:3] + ((size,) if decay == "vector" else ())) + 4)
    if op == "delta_rule":
        inputs["beta"] = jax.nn.sigmoid(normal(4, shape[:3]))
    if op == "dplr_attention":
        inputs |= {"a": -k, "b": k * jax.nn.sigmoid(normal(4, k.shape))}
    start = jnp.zeros((batch, heads, size, columns))
    if op == "exponential_attention":
        inputs["log_i"], start = normal(4, shape[:3]), (start, jnp.full((batch, heads), -1e30))
    return Problem(op, decay, shape, inputs, *_named(op), step, start)


def cell(shape: tuple[int, ...]) -> Problem:
    """cell_scan of a gated unit with a diagonal of recurrent weights and three gates."""
    inputs = {"params": 0.3 * normal(0, (3, shape[2])), "u": tuple(normal(i, shape) for i in (1, 2, 3))}
    start = jnp.zeros((shape[0], shape[2]))

    def stepped(h: jax.Array, x: Inputs) -> tuple[jax.Array, jax.Array]:
        h = gated(x["params"], h, x["u"])
        return h, h

    def run(method: str, x: Inputs) -> jax.Array:
        return ops.cell_scan(gated, **x, method=method)

    def exact(x: Inputs) -> jax.Array:
        return reference.cell_scan(gated, **x, h0=jnp.zeros_like(x["u"][0][:, 0]))

    return Problem("cell_scan", "three gates", shape, inputs, run, exact, stepped, start)


def gated(params: jax.Array, h: jax.Array, u: tuple[jax.Array, ...]) -> jax.Array:
    """A gated recurrent unit whose states do not mix."""
    z, r = jax.nn.sigmoid(params[0] * h + u[0]), jax.nn.sigmoid(params[1] * h + u[1])
    return (1 - z) * h + z * jnp.tanh(params[2] * h * r + u[2])


def normal(seed: int, shape: tuple[int, ...], kind: str = "float32") -> jax.Array:
    """Normally distributed numbers."""
    return jax.random.normal(jax.random.key(seed), shape, jnp.dtype(kind))


def unit(x: jax.Array) -> jax.Array:
    """x with vectors of length 1."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _named(op: str) -> tuple[Callable[[str, Inputs], jax.Array], Callable[[Inputs], jax.Array]]:
    """`run` and `exact` of an op whose arguments are the inputs; of several results the first counts."""
    ours, exact = getattr(ops, op), getattr(reference, op)
    return lambda method, x: _first(ours(**x, method=method)), lambda x: _first(exact(**x))


def _first(results: Any) -> jax.Array:
    return results[0] if isinstance(results, tuple) else results


DECAYS = ("none", "scalar", "vector")
MAKERS: dict[str, list[Callable[[], Problem]]] = {
    "linear_scan": [
        *(partial(linear, shape) for shape in ((8, 2048, 512), (4, 2048, 1024), (1, 16384, 256))),
        partial(linear, (8, 2048, 512), (1, 1, 512)),
        partial(linear, (8, 2048, 512), kind="bfloat16"),
        partial(linear, (4, 2048, 256), kind="complex64"),
    ],
    "block_scan": [partial(block, (2, 1024, 256, 2)), partial(block, (2, 1024, 32, 8))],
    "coupled_scan": [partial(coupled, (2, 1024, 256, 2)), partial(coupled, (2, 1024, 256, 4))],
    "log_linear_scan": [partial(logarithmic, (4, 1024, 512))],
    "softmax_scan": [partial(softmax, (4, 1024, 8, 64))],
    "cell_scan": [partial(cell, (8, 2048, 512))],
    "linear_attention": [partial(attention, "linear_attention", ops_peers.attention, decay) for decay in DECAYS],
    "delta_rule": [partial(attention, "delta_rule", ops_peers.delta, decay) for decay in DECAYS],
    "dplr_attention": [
        partial(attention, "dplr_attention", ops_peers.low_rank, "vector", shape) for shape in (MATRIX, WIDE)
    ],
    "exponential_attention": [partial(attention, "exponential_attention", ops_peers.exponential, "scalar")],
}
