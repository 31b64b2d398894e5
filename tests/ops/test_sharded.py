"""Every scan over eight devices, time over four of them, against the op on one: values, gradients, collectives."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxseq import ops
from jaxseq.benchmark.time_split import compile_split
from jaxseq.compiled.hlo import collectives
from jaxseq.ops import algebra, placement, sharded
from jaxseq.ops.shift import previous
from jaxseq.sharding import RULES, make_mesh

B, T, G, H, K, V = 2, 12, 2, 4, 3, 2
KEYS, VALUES = (B, T, G, K), (B, T, H, V)
FLAGGED = ("reset", "mask")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def decay(seed, *shape):
    return -np.abs(random(seed, *shape))


def unit(seed, *shape):
    x = random(seed, *shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


STATE = random(9, B, H, K, V)
# name: (function, arguments with the state last, options). None of T, B and H is what a device holds.
CASES = {
    "linear_scan": ("linear_scan", [np.tanh(random(0, B, T, 6)), random(1, B, T, 6), random(2, B, 6)], {}),
    "reverse": ("linear_scan", [np.tanh(random(0, B, T, 6)), random(1, B, T, 6), random(2, B, 6)], {"reverse": True}),
    "invariant": ("linear_scan", [np.tanh(random(0, 1, 1, 6)), random(1, B, T, 6), random(2, B, 6)], {}),
    "block_scan": ("block_scan", [random(0, B, T, G, K, K) / 2, random(1, B, T, G, K), random(2, B, G, K)], {}),
    "log_linear_scan": ("log_linear_scan", [decay(0, B, T, 6), random(1, B, T, 6), random(2, B, 6)], {}),
    "softmax_scan": (
        "softmax_scan",
        [random(0, B, T, H), random(1, *VALUES), (random(2, B, H), 1 + random(3, B, H) ** 2, random(4, B, H, V))],
        {"decay": np.float32(0.3), "bonus": np.float32(0.5)},
    ),
    "linear_attention": (
        "linear_attention",
        [random(0, *KEYS), random(1, *KEYS), random(2, *VALUES), decay(3, B, T, H, K), STATE],
        {"bonus": random(5, H, K), "chunk": 2},  # the others, by a method that compiles in half the time
    ),
    "normalized_linear_attention": (
        "normalized_linear_attention",
        [random(0, *KEYS), random(1, *KEYS), random(2, *VALUES), decay(3, B, T, H), (STATE, random(8, B, H, K))],
        {"method": "sequential"},
    ),
    "exponential_attention": (
        "exponential_attention",
        [
            *(random(0, *KEYS), random(1, *KEYS), random(2, *VALUES), decay(3, B, T, H), 3 * random(4, B, T, H)),
            (STATE, random(8, B, H, K), random(7, B, H)),
        ],
        {"method": "sequential"},
    ),
    "delta_rule": (
        "delta_rule",
        [
            *(random(0, *KEYS), unit(1, *KEYS), random(2, *VALUES), 1 + np.tanh(random(3, B, T, H))),
            *(decay(4, B, T, H), STATE),
        ],
        {"method": "sequential"},
    ),
    "rwkv7_attention": (
        "rwkv7_attention",
        [
            *(random(0, B, T, H, K), decay(1, B, T, H, K), random(2, B, T, H, K), random(3, *VALUES)),
            *(unit(4, B, T, H, K), np.abs(np.tanh(random(5, B, T, H, K))), STATE),
        ],
        {"method": "sequential"},
    ),
    "causal_conv": ("causal_conv", [random(0, B, T, 6), random(1, 6, 6), random(2, 6), random(3, B, 5, 6)], {}),
}


COLLECTIVES = r"= (?:\S+|\(.*?\)) (all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)\("


@pytest.fixture(scope="module")
def flags():
    """Documents that start at a border, inside a part and nowhere; a part that is padding, and one that ends in it."""
    reset, mask = np.zeros((B, T), bool), np.ones((B, T), bool)
    reset[0, [3, 7]] = True
    mask[1, 3:6] = mask[0, 8] = mask[1, 10:] = False
    return {"reset": reset, "mask": mask}


def gradients(function, flags, options, args):
    """Results and cotangents of all arguments, for a loss on outputs and final state; zero at padding."""
    results, pull = jax.vjp(lambda *args: function(*args, **flags, **options), *args)
    valid = flags["mask"].reshape(B, T, 1, 1)

    def kept(x):
        return x * valid.reshape(valid.shape[: x.ndim]) if x.shape[:2] == (B, T) else x

    cotangents = jax.tree.map(lambda x: kept(jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)), results)
    return jax.tree.map(kept, results), pull(cotangents)


MADE_OF_OTHERS = ("rwkv7_attention",)  # their parts are joined by code that another case runs


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in MADE_OF_OTHERS else ()) for name in CASES]
)
def test_values_and_gradients_are_those_of_one_device_with_two_exchanges_each_way(name, flags, close):
    function, args, options = CASES[name]
    with jax.set_mesh(make_mesh((1, 1, 2, 4))):
        split = jax.jit(partial(gradients, getattr(sharded, function), flags, options)).lower(args).compile()
    close(split(args), jax.jit(partial(gradients, getattr(ops, function), flags, options))(args))
    # Two exchanges each way; a sum for arguments that all devices share.
    found = re.findall(COLLECTIVES, split.as_text())
    assert found.count("all-to-all") == 4
    assert len(found) <= 5


# name: (function, what follows (B, T) in every argument): eight channels or heads, so that none of eight is padding
EXCHANGED = {
    "linear_scan": (sharded.linear_scan, ((8,), (8,))),
    "linear_attention": (sharded.linear_attention, ((8, 2), (8, 2), (8, 3), (8,))),
    "causal_conv": (lambda x: sharded.causal_conv(x, jnp.ones((4, 8))), ((8,),)),
}


FLAG = 4  # bytes of what is the same for all channels, whether a document starts and how many tokens are valid


def exchanged(function, rest, devices):
    """What the op and its gradients exchange over so many devices."""
    return collectives(compile_split(function, jax.devices()[:devices], [(1, 32, *x) for x in rest]).as_text())


@pytest.mark.parametrize("name", ["linear_scan", "linear_attention", "causal_conv"])
def test_more_devices_do_not_send_more_and_have_no_more_collectives(name):
    function, rest = EXCHANGED[name]
    two, eight = (exchanged(function, rest, devices)["all-to-all"] for devices in (2, 8))
    assert two["count"] == eight["count"] == 4
    assert two["bytes"] < eight["bytes"] <= two["bytes"] + 6 * 2 * FLAG


def by_linear_scan(ops, a, b):
    return ops.linear_scan(a[None, None], b)


def by_project(ops, a, b):
    coefficients = lambda b, a: (a[None, None], b)  # noqa: E731
    return ops.linear_scan_project(coefficients, lambda h, b, a: h, b, jnp.zeros_like(b[:, 0]), params=(a,), chunk=2)[0]


@pytest.mark.parametrize("scan", [by_linear_scan, by_project])
def test_a_complex_decay_that_all_parts_share_has_its_gradient_summed_as_reals(scan, close):
    a, b = 0.9 * np.exp(1j * random(0, 6)), random(1, B, T, 6) + 1j * random(2, B, T, 6)

    def gradient(ops, a):
        return jax.grad(lambda a: jnp.sum(jnp.abs(scan(ops, a, b)) ** 2))(a)

    with jax.set_mesh(make_mesh((1, 1, 1, 4), jax.devices()[:4])):
        program = jax.jit(partial(gradient, sharded)).lower(a).compile()
    sums = [line for line in program.as_text().splitlines() if " all-reduce(" in line and "{{0}," not in line]
    assert sums
    assert not any(re.search(r"c(64|128)\[", line.split(" all-reduce(")[0]) for line in sums)
    close(program(a), jax.jit(partial(gradient, ops))(a))


def test_states_that_are_not_kept_are_made_on_every_device(flags, close):
    def run(function, rates, x, h0, **flags):
        coefficients = lambda x, rates: (jnp.exp(-jnp.abs(x)[..., None] * rates), x[..., None] * rates)  # noqa: E731
        readout = lambda h, x, rates: jnp.sum(h * rates, axis=-1) + x  # noqa: E731
        return function(coefficients, readout, x, h0, params=(rates,), chunk=2, **flags)

    args = np.abs(random(0, 6, 2)), random(1, B, T, 6), random(2, B, 6, 2)
    run_both = [partial(run, ops.linear_scan_project), partial(run, sharded.linear_scan_project)]
    whole, split = (jax.jit(partial(gradients, function, flags, {})) for function in run_both)
    with jax.set_mesh(make_mesh((1, 1, 2, 4))):
        parts = split(args)
    close(parts, whole(args))


def test_a_state_wider_than_the_inputs_travels_as_the_op_returns_it(close):
    x, w, state = random(0, B, T, 6).astype(jnp.bfloat16), random(1, 4, 6).astype(jnp.bfloat16), random(2, B, 3, 6)
    with jax.set_mesh(make_mesh((1, 1, 2, 4))):
        y, after = jax.jit(partial(sharded.causal_conv, state=state))(x, w)
    assert after.dtype == jnp.bfloat16
    close((y, after), ops.causal_conv(x, w, state=state), "bfloat16")


def test_a_single_step_is_not_split(close):
    a, b, h0 = (np.asarray(x)[:, :1] if x.ndim == 3 else x for x in CASES["linear_scan"][1])
    with jax.set_mesh(make_mesh((1, 1, 1, 8))):
        close(jax.jit(sharded.linear_scan)(a, b, h0), ops.linear_scan(a, b, h0))


def test_time_split_is_never_merged_with_rows_by_a_matmul(close):
    x, w = random(0, B, T, 6), random(1, 6, 4)
    with jax.set_mesh(make_mesh((1, 1, 2, 4))):
        split = jax.jit(lambda x: ops.matmul(jax.lax.with_sharding_constraint(x, P(None, "seq")), w)).lower(x).compile()
    assert "all-gather" not in split.as_text()
    close(split(x), ops.matmul(x, w))


def test_the_state_before_is_taken_from_the_device_to_the_left(close):
    h, h0 = random(0, B, T, 6), random(1, B, 6)
    reset = np.zeros((B, T), bool)
    reset[0, [2, 3]] = True
    with jax.set_mesh(make_mesh((1, 1, 2, 4))):
        shift = jax.jit(lambda h: previous(jax.lax.with_sharding_constraint(h, P(None, "seq")), h0, reset))
        split = shift.lower(h).compile()
    assert set(re.findall(COLLECTIVES, split.as_text())) == {"collective-permute"}
    close(split(h), algebra.previous(h, h0, reset))


def test_without_a_mesh_it_is_the_op(close):
    function, args, _ = CASES["linear_scan"]
    close(getattr(sharded, function)(*args), getattr(ops, function)(*args))


def test_a_nan_stays_in_its_row_and_its_document(flags):
    _, (a, b, h0), _ = CASES["linear_scan"]
    with jax.set_mesh(make_mesh((1, 1, 2, 4))):
        run = jax.jit(partial(sharded.linear_scan, reset=flags["reset"]))
        whole, poisoned = run(a, b, h0), run(a, jnp.asarray(b).at[0, 1].set(jnp.nan), h0)
    clean = np.ones((B, T), bool)
    clean[0, 1:3] = False
    assert np.array_equal(np.isfinite(poisoned).all(-1), clean)
    assert np.array_equal(poisoned[clean], whole[clean])


def test_devices_that_do_not_divide_time_are_named():
    with jax.set_mesh(make_mesh((1, 1, 1, 8))), pytest.raises(ValueError, match=r"T must divide by 8, .* seq, got 12"):
        sharded.linear_scan(*CASES["linear_scan"][1])


def test_the_ops_split_rows_and_channels_as_the_rules_of_the_model_do():
    assert placement.AXES["B"] == RULES["batch"]
    assert all(placement.AXES[letter] == (RULES[name],) for letter, name in (("D", "inner"), ("H", "heads")))
