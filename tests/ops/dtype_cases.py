"""A small problem for every op, and what the op means: arguments by name, for tests in any dtype."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import ops
from jaxseq.ops import reference

B, T, G, H, K, V, C = 2, 7, 1, 2, 4, 3, 3
RESET, MASK = np.zeros((B, T), bool), np.ones((B, T), bool)
RESET[0, [2, 3]] = RESET[1, 5] = True  # every document starts with a token that counts
MASK[0, 4] = MASK[1, [0, 6]] = False
FLAGS = {"reset": RESET, "mask": MASK}


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sigmoid(seed, *shape):
    return 1 / (1 + np.exp(-random(seed, *shape)))


def unit(seed, *shape):
    x = random(seed, *shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def gate(params, h, u):
    """A cell of two gates."""
    z = jax.nn.sigmoid(params[0] * h + u["z"])
    return (1 - z) * h + z * jnp.tanh(params[1] * h + u["c"])


def projected(run: Callable[..., Any], rates, gain, x, h0, **options):
    """The readout of a scan, where decays, inputs and readout close over parameters."""

    def coefficients(x):
        return jnp.exp(-jax.nn.softplus(x.astype(rates.dtype))[..., None] * rates), x[..., None] * rates

    return run(coefficients, lambda h, x: (h @ gain + x).astype(x.dtype), x, h0, **options)


def whole(coefficients: Callable[..., Any], readout, x, h0, **flags):
    a, b = coefficients(x)
    h = reference.linear_scan(a, b, h0, **flags)
    return readout(h, x), h[:, -1]


def removing(run: Callable[..., Any], r, log_w, k, v, kk, eta, state, **options):
    """RWKV-7 in the general form."""
    return run(r, k, v, -kk, kk * eta, log_w, state, **options)


def coupled(A, b, h0, **flags):
    """The recurrence of blocks, of one array per entry."""
    A, b, h0 = jnp.stack([jnp.stack(row, axis=-1) for row in A], axis=-2), *(jnp.stack(x, axis=-1) for x in (b, h0))
    return tuple(jnp.moveaxis(reference.block_scan(A, b, h0, **flags), -1, 0))


def counted(s, z0, **flags):
    return reference.log_linear_scan(jnp.zeros((1, 1, 1)), s, z0, **flags)


def norm_of(mean: Callable[..., Any], eps, x, scale=1.0):
    return x / jnp.sqrt(mean(x * x, axis=-1, keepdims=True) + eps) * scale


class Case(NamedTuple):
    """An op and what it means; its activations, which may be bfloat16, and its decays and states, which stay wide."""

    op: Callable[..., Any]
    exact: Callable[..., Any]
    narrow: dict[str, Any]
    wide: dict[str, Any]
    flags: dict[str, np.ndarray] = FLAGS


def outputs(run):
    """`run` without the state after the last step, whose units are its own."""
    return lambda *args, **named: run(*args, **named)[0]


chunked = partial(partial, chunk=3)  # does not divide T
KEYS, VALUES, STATE = (B, T, G, K), (B, T, H, V), random(9, B, H, K, V)
QKV = {"q": random(0, *KEYS), "k": random(1, *KEYS), "v": random(2, *VALUES)}
UNIT = {**QKV, "k": unit(1, *KEYS), "beta": 2 * sigmoid(3, B, T, H)}
WIDE = {name: random(i, B, T, H, K) for i, name in enumerate("qkr")}
REMOVED, RATE = unit(4, B, T, H, K), sigmoid(5, B, T, H, K)
SCALAR, VECTOR = -sigmoid(6, B, T, H), -sigmoid(7, B, T, H, K)
NORMALISER, UNITS = random(8, B, H, K), random(10, B, H)
X, SCALE = random(0, B, T, C), random(1, C)
LOW_RANK = {"q": WIDE["q"], "k": WIDE["k"], "v": QKV["v"], "a": REMOVED, "b": -RATE * REMOVED}
RWKV7 = {"r": WIDE["r"], "k": WIDE["k"], "v": QKV["v"], "kk": REMOVED, "eta": RATE}
SUMS = (UNITS, 1 + UNITS**2, STATE[:, :, 0])
CASES = {
    "linear_scan": Case(
        chunked(ops.linear_scan), reference.linear_scan, {"b": X}, {"a": sigmoid(1, B, T, C), "h0": random(2, B, C)}
    ),
    "block_scan": Case(
        chunked(ops.block_scan),
        reference.block_scan,
        {"b": random(0, B, T, 2, 2)},
        {"A": random(1, B, T, 2, 2, 2) / 2, "h0": random(2, B, 2, 2)},
    ),
    "coupled_scan": Case(
        chunked(ops.coupled_scan),
        coupled,
        {"b": tuple(random(0, 2, B, T, C))},
        {"A": tuple(map(tuple, random(1, 2, 2, B, T, C) / 2)), "h0": tuple(random(2, 2, B, C))},
    ),
    "log_linear_scan": Case(
        ops.log_linear_scan,
        reference.log_linear_scan,
        {"log_b": X, "log_h0": random(2, B, C)},
        {"log_a": SCALE[None, None]},
    ),
    "prefix_logsumexp": Case(ops.prefix_logsumexp, counted, {"s": X}, {"z0": random(2, B, C)}),
    "cell_scan": Case(
        partial(ops.cell_scan, gate),
        partial(reference.cell_scan, gate),
        {"u": {"z": X, "c": random(3, B, T, C)}},
        {"params": random(1, 2, C), "h0": random(2, B, C)},
    ),
    "softmax_scan": Case(
        outputs(ops.softmax_scan),
        outputs(reference.softmax_scan),
        {"s": random(0, B, T, H), "v": QKV["v"]},
        {"state": SUMS, "decay": sigmoid(3, H), "bonus": random(4, H)},
    ),
    "linear_scan_project": Case(
        partial(projected, chunked(ops.linear_scan_project)),
        partial(projected, whole),
        {"x": X},
        {"rates": sigmoid(1, C, 2), "gain": random(3, 2), "h0": random(2, B, C, 2)},
    ),
    "linear_attention": Case(
        chunked(ops.linear_attention),
        reference.linear_attention,
        {**QKV, "bonus": random(3, H, K)},
        {"log_a": VECTOR, "state": STATE},
    ),
    "normalized_linear_attention": Case(
        chunked(ops.normalized_linear_attention),
        reference.normalized_linear_attention,
        QKV,
        {"log_a": SCALAR, "state": (STATE, NORMALISER)},
    ),
    "exponential_attention": Case(
        chunked(ops.exponential_attention),
        reference.exponential_attention,
        QKV,
        {"log_a": SCALAR, "log_i": random(3, B, T, H), "state": (STATE, NORMALISER, UNITS)},
    ),
    "delta_rule": Case(chunked(ops.delta_rule), reference.delta_rule, UNIT, {"log_a": SCALAR, "state": STATE}),
    "dplr_attention": Case(
        chunked(ops.dplr_attention), reference.dplr_attention, LOW_RANK, {"log_a": VECTOR, "state": STATE}
    ),
    "rwkv7_attention": Case(
        chunked(ops.rwkv7_attention),
        partial(removing, reference.dplr_attention),
        RWKV7,
        {"log_w": VECTOR, "state": STATE},
    ),
    "causal_conv": Case(
        ops.causal_conv,
        reference.causal_conv,
        {"x": X, "w": random(1, 4, C), "b": SCALE, "state": random(2, B, 3, C)},
        {},
    ),
    "rms_norm": Case(ops.rms_norm, partial(norm_of, jnp.mean, 1e-6), {"x": X}, {"scale": SCALE}, {}),
    "layer_norm": Case(
        ops.layer_norm,
        lambda x, scale: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale,
        {"x": X},
        {"scale": SCALE},
        {},
    ),
    "token_shift": Case(
        ops.token_shift,
        lambda x, state, **flags: reference.causal_conv(x, np.eye(2)[:, :1] * np.ones(C), None, state, **flags),
        {"x": X, "state": random(2, B, 1, C)},
        {},
    ),
    "l2_norm": Case(ops.l2_norm, partial(norm_of, jnp.sum, 1e-6), {"x": X}, {}, {}),
    "unit_norm": Case(ops.unit_norm, partial(norm_of, jnp.sum, 0), {"x": X}, {}, {}),
    "matmul": Case(ops.matmul, lambda x, w: x @ w, {"x": X, "w": random(1, C, 2)}, {}, {}),
}
