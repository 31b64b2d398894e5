"""Arguments of delta_rule and dplr_attention in the tests, and what is compiled once for all of them."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.ops import reference
from jaxseq.ops.delta_rule import delta_rule
from jaxseq.ops.dplr import dplr_attention

# Six chunks, the last of them with 1 step; two heads of v for one of q and k.
B, T, G, H, K, V, C = 2, 21, 1, 2, 4, 3, 4
RESET = np.zeros((B, T), bool)
RESET[0, 7], RESET[1, [3, 17]] = True, True
MASK = np.ones((B, T), bool)
MASK[0, [2, 7, 18]], MASK[1, 4:6] = False, False
FLAGS = {"reset": RESET, "mask": MASK}
untyped: Any = delta_rule  # the tests pass numpy arrays
forward = jax.jit(partial(delta_rule, method="chunked"), static_argnames=("chunk", "method"))


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.bfloat16).astype(np.float32)


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(jnp.bfloat16).astype(np.float32)


def sigmoid(x):
    return (1 / (1 + np.exp(-x))).astype(jnp.bfloat16).astype(np.float32)


Q, KEY, VALUE, BETA = (
    random(0, B, T, G, K),
    unit(random(1, B, T, G, K)),
    random(2, B, T, H, V),
    2 * sigmoid(random(3, B, T, H)),
)
STATE = random(4, B, H, K, V)
A, WRITE = unit(random(7, B, T, H, K)), -sigmoid(random(8, B, T, H, K)) * unit(random(7, B, T, H, K))
LOG_A = {"none": None, "scalar": -np.abs(random(5, B, T, H)), "vector": -np.abs(random(6, B, T, H, K))}
COTANGENT = random(9, B, T, H, V) * MASK[..., None, None], random(10, B, H, K, V)
WIDE = {"q": random(11, B, T, H, K), "k": random(12, B, T, H, K)}


def arguments(op, decay):
    delta = {"q": Q, "k": KEY, "v": VALUE, "beta": BETA}
    low_rank = {**WIDE, "v": VALUE, "a": A, "b": WRITE}
    named = {**(delta if op == "delta_rule" else low_rank), "log_a": LOG_A[decay], "state": STATE}
    return {name: x for name, x in named.items() if x is not None}


def gradients(run, named, cotangent):
    """y, the last state and the cotangents of all arguments; y at padding is not looked at."""
    (y, state), pull = jax.vjp(lambda named: run(**named), named)
    return (jnp.where(MASK[..., None, None], y, 0), state), pull(cotangent)


@cache
def compiled(op, decay, method="chunked", size=C):
    run = partial({"delta_rule": delta_rule, "dplr_attention": dplr_attention}[op], method=method, chunk=size)
    return jax.jit(partial(gradients, partial(run, scale=0.5, **FLAGS)))


@cache
def exact(op, decay):
    return jax.jit(partial(gradients, partial(getattr(reference, op), scale=0.5, **FLAGS)))


def expected(op, decay, named):
    return in_float64(exact(op, decay), named)


def in_float64(run, named):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (named, COTANGENT))
        return jax.tree.map(np.asarray, run(*wide))
