"""What the ops are measured against: stepping with `lax.scan`, `lax.associative_scan`, and adding two arrays.

A step is (state, x_t) -> (state, y_t) for x_t the op's arguments at one time; nothing of it is the ops' own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Step = Callable[[Any, Any], tuple[Any, jax.Array]]


def by_steps(step: Step, start: Any, xs: dict[str, Any]) -> jax.Array:
    """y_t for all t, time-major as xs is: nothing is transposed, and nothing but y is kept.

    `params`, and what has one step only, are the same at every step.
    """
    time = max(x.shape[0] for name, tree in xs.items() if name != "params" for x in jax.tree.leaves(tree))
    # Wide before the loop: XLA:CPU converts a whole array of half precision at every step that touches it.
    xs = jax.tree.map(lambda x: x.astype(jnp.result_type(x, jnp.float32)), xs)
    moving = {name: x for name, x in xs.items() if name != "params" and jax.tree.leaves(x)[0].shape[0] == time}
    fixed = {name: x if name == "params" else x[0] for name, x in xs.items() if name not in moving}
    return lax.scan(lambda state, x: step(state, {**fixed, **x}), start, moving)[1]


def by_halves(x: dict[str, jax.Array]) -> jax.Array:
    """h of h_t = a_t h_{t-1} + b_t by `lax.associative_scan`, which autodiff then goes through."""
    a, b = jnp.broadcast_to(x["a"], x["b"].shape), x["b"].astype(x["a"].dtype)

    def compose(first: Any, second: Any) -> Any:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return lax.associative_scan(compose, (a, b), axis=1)[1].astype(x["b"].dtype)


def add(x: dict[str, jax.Array]) -> jax.Array:
    """a + b: the time that moving the arrays takes."""
    return (x["a"] + x["b"]).astype(x["b"].dtype)


def linear(h: jax.Array, x: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """h = a h + b."""
    h = x["a"] * h + x["b"]
    return h, h


def block(h: jax.Array, x: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """h = A h + b for every block."""
    h = jnp.einsum("bgij,bgj->bgi", x["A"], h) + x["b"]
    return h, h


def coupled(h: tuple[jax.Array, ...], x: dict[str, Any]) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """h_i = Σ_j A_ij h_j + b_i."""
    h = tuple(sum(a * y for a, y in zip(row, h, strict=True)) + b for row, b in zip(x["A"], x["b"], strict=True))
    return h, jnp.stack(h, axis=-1)


def logarithmic(h: jax.Array, x: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """log h = log(e^(log_a + log h) + e^log_b)."""
    h = jnp.logaddexp(x["log_a"] + h, x["log_b"])
    return h, h


def softmax(state: Any, x: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
    """The sums of the weights and of the weighted values, in units of the largest weight."""
    m, u, w = state
    largest = jnp.maximum(m, x["s"])
    kept, new = jnp.exp(m - largest), jnp.exp(x["s"] - largest)
    u, w = kept * u + new, kept[..., None] * w + new[..., None] * x["v"]
    return (largest, u, w), w / u[..., None]


def attention(S: jax.Array, x: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """S = e^log_a S + k vᵀ, y = Sᵀ q."""
    S = _decayed(S, x.get("log_a")) + _outer(x["k"], x["v"])
    return S, _read(x["q"], S)


def delta(S: jax.Array, x: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """S = e^log_a S, then S = S + k (β (v - Sᵀ k))ᵀ, y = Sᵀ q."""
    S = _decayed(S, x.get("log_a"))
    S = S + _outer(x["k"], x["beta"][..., None] * (x["v"] - _read(x["k"], S)))
    return S, _read(x["q"], S)


def low_rank(S: jax.Array, x: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """S = e^log_a S + b (Sᵀ a)ᵀ + k vᵀ, y = Sᵀ q."""
    S = _decayed(S, x["log_a"]) + _outer(x["b"], _read(x["a"], S)) + _outer(x["k"], x["v"])
    return S, _read(x["q"], S)


def exponential(state: Any, x: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
    """The matrix memory in units of e^m, and what is read of it."""
    S, m = state
    largest = lax.stop_gradient(jnp.maximum(x["log_a"] + m, x["log_i"]))
    S = _decayed(S, x["log_a"] + m - largest) + _outer(jnp.exp(x["log_i"] - largest)[..., None] * x["k"], x["v"])
    return (S, largest), _read(x["q"], S)


def _decayed(S: jax.Array, log_a: jax.Array | None) -> jax.Array:
    if log_a is None:
        return S
    return jnp.exp(log_a).reshape(*log_a.shape, *(1,) * (S.ndim - log_a.ndim)) * S


def _outer(k: jax.Array, v: jax.Array) -> jax.Array:
    return k[..., :, None] * v[..., None, :]


def _read(q: jax.Array, S: jax.Array) -> jax.Array:
    return jnp.einsum("bhk,bhkv->bhv", q, S)
