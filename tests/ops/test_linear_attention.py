"""linear_attention against lax.scan in float64: every method, decay and option, values and gradients."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import reference
from jaxseq.ops.linear_attention import linear_attention, normalized_linear_attention, prefix_state

METHODS = ("chunked", "associative", "sequential")
B, T, G, H, K, V, CHUNK = 2, 11, 2, 4, 4, 3, 4
attend = jax.jit(linear_attention, static_argnames=("method", "chunk"))
GIVEN = {"state": (B, H, K, V), "bonus": (H, K)}
# The shape of log_a, then what else is given.
CASES = {
    "none": (None,),
    "scalar": ((B, T, H), "state", "flags"),
    "constant": ((1, 1, H), "state", "bonus", "reset"),
    "constant_vector": ((1, 1, H, K), "state", "flags"),
    "bonus": ((B, T, H, K), "state", "bonus", "flags"),
}
LENGTH = {"constant": 12}  # a multiple of the chunk: then one chunk of decays stands for all of them
MATRIX = [
    *(("chunked", "float32", name) for name in CASES),
    ("associative", "float32", "scalar"),
    ("sequential", "float32", "constant"),
    ("sequential", "float32", "bonus"),
    ("sequential", "float64", "scalar"),
    ("sequential", "bfloat16", "none"),
]


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def flags(time=T):
    """Resets at the start of a chunk, within one and at padding; padding at a row's start and at its end."""
    reset, mask = np.zeros((B, time), bool), np.ones((B, time), bool)
    reset[0, [4, 6, 9]], reset[1, 2] = True, True
    mask[0, 0], mask[1, [2, *range(8, time)]] = False, False
    return reset, mask


def problem(name):
    """The arrays, all of them exact in bfloat16 but the decays and the state, and the flags."""
    (shape, *given), time = CASES[name], LENGTH.get(name, T)
    x = {"q": random(1, B, time, G, K), "k": random(2, B, time, G, K), "v": random(3, B, time, H, V)}
    x = {key: np.asarray(jnp.asarray(value, jnp.bfloat16), np.float32) for key, value in x.items()}
    if shape:
        x["log_a"] = -np.abs(random(4, *shape))
    x |= {key: random(5, *GIVEN[key]) for key in given if key in GIVEN}
    reset, mask = flags(time)
    return x, {"flags": {"reset": reset, "mask": mask}, "reset": {"reset": reset}}.get(given[-1] if given else "", {})


def gradients(run, x, options):
    """The results and their cotangents; what padding returns is unspecified and does not count."""
    mask = options.get("mask", np.ones(x["v"].shape[:2], bool))

    def counted(x):
        y, state = run(**x, **options, scale=0.5)
        return jnp.where(mask[..., None, None], y, 0), state

    (y, state), pull = jax.vjp(counted, x)
    return (y, state), pull((random(6, *y.shape).astype(y.dtype), random(7, *state.shape).astype(state.dtype)))[0]


@cache
def compiled(run, **static):
    return jax.jit(partial(gradients, partial(run, **static)))


def expected(*args):
    with jax.enable_x64(True):
        args = jax.tree.map(lambda x: jnp.asarray(x, np.float64) if x.dtype == np.float32 else x, args)
        return jax.tree.map(np.asarray, compiled(reference.linear_attention)(*args))


@pytest.mark.parametrize(("method", "kind", "name"), MATRIX)
def test_values_and_gradients_are_the_reference_s(method, kind, name, close):
    x, options = problem(name)
    wide = "float64" if kind == "float64" else "float32"
    with jax.enable_x64(kind == "float64"):
        x = {key: jnp.asarray(value, kind if key in "qkv" else wide) for key, value in x.items()}
        (y, state), gradient = compiled(linear_attention, method=method, chunk=CHUNK)(x, options)
    assert (y.dtype, state.dtype) == (kind, wide)
    close(((y, state), gradient), expected(*problem(name)), kind)


@pytest.mark.parametrize("name", ["scalar", "bonus"])
def test_decays_of_any_size_keep_their_digits_and_have_gradients(name, close):
    x, options = problem(name)
    mixed = np.random.default_rng(8).choice([0, 1e-6, 5, 50], x["log_a"].shape)
    for size in (0, 1e-6, 50, mixed):
        x["log_a"] = np.float32(-size * np.ones_like(x["log_a"]))
        close(compiled(linear_attention, method="chunked", chunk=CHUNK)(x, options), expected(x, options))


@pytest.mark.parametrize(("method", "chunk"), [("chunked", 3), ("chunked", 64), ("associative", 4), ("auto", 5)])
def test_neither_the_method_nor_the_length_of_a_chunk_changes_values(method, chunk, close):
    x, options = problem("bonus")
    mask = options["mask"][..., None, None]
    y, state = attend(**x, **options, scale=0.5, method=method, chunk=chunk)
    close((jnp.where(mask, y, 0), state), expected(x, options)[0])


@pytest.mark.parametrize("method", ["chunked", "sequential"])
def test_a_prompt_and_one_step_from_its_state_are_the_whole(method, close):
    x, options = problem("scalar")
    options["mask"][1, -1] = True
    state, parts = x["state"], []
    for part in (slice(T - 1), slice(T - 1, None)):
        timed = {key: value[:, part] for key, value in (x | options).items() if key != "state"}
        y, state = attend(**timed, state=state, scale=0.5, method=method, chunk=CHUNK)
        parts.append(y)
    y = jnp.where(options["mask"][..., None, None], jnp.concatenate(parts, axis=1), 0)
    close((y, state), expected(x, options)[0])


@pytest.mark.parametrize("spoiled", ["q", "k", "v", "log_a"])
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_stays_in_its_document_and_after_its_step(method, spoiled):
    x, _ = problem("bonus")
    options = {"reset": np.arange(T) == np.full((B, 1), 7), "mask": np.ones((B, T), bool)}
    y, state = attend(**x, **options, method=method, chunk=CHUNK)
    x[spoiled] = x[spoiled].copy()
    x[spoiled][1, 5] = np.nan
    poisoned, last = attend(**x, **options, method=method, chunk=CHUNK)
    reached = np.zeros((B, T), bool)  # with a bonus, a step reads the state that its decay has not touched
    reached[1, {"q": [5], "log_a": [6]}.get(spoiled, [5, 6])] = True
    assert np.array_equal(np.all(np.isnan(poisoned), axis=(2, 3)), reached)
    assert np.all((poisoned == y) | reached[..., None, None])
    assert np.all(last == state)


@pytest.mark.parametrize("name", ["scalar", "bonus"])
def test_a_decay_to_zero_may_be_minus_infinity(name, close):
    x, options = problem(name)
    x["log_a"][:, [1, 6]] = -np.inf
    least = x | {"log_a": np.maximum(x["log_a"], np.float32(-1e4))}
    run = compiled(linear_attention, method="chunked", chunk=CHUNK)
    close(run(x, options), run(least, options))


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_in_the_state_ends_with_the_document(method):
    x, _ = problem("bonus")
    options = {"reset": np.arange(T) == np.full((B, 1), 5), "mask": np.ones((B, T), bool)}
    x["state"] = np.full_like(x["state"], np.nan)
    y, state = attend(**x, **options, method=method, chunk=CHUNK)
    assert np.all(np.isnan(y[:, :5]))
    assert np.all(np.isfinite(y[:, 5:]))
    assert np.all(np.isfinite(state))


@pytest.mark.parametrize("method", METHODS)
def test_what_padding_holds_never_matters(method):
    x, options = problem("bonus")
    y, state = attend(**x, **options, method=method, chunk=CHUNK)
    for key in ("q", "k", "v", "log_a"):
        x[key] = np.where(options["mask"][..., None, None], x[key], np.nan)
    spoiled, last = attend(**x, **options, method=method, chunk=CHUNK)
    assert np.all(last == state)
    assert np.all(np.isfinite(spoiled))
    assert np.all((spoiled == y) | ~options["mask"][..., None, None])


def largest(program):
    """Entries of the largest value that a program, or a program in it, computes."""
    params = jax.tree.leaves([list(eqn.params.values()) for eqn in program.eqns], is_leaf=lambda x: hasattr(x, "eqns"))
    inner = [getattr(x, "jaxpr", x) for x in params]
    sizes = [v.aval.size for eqn in program.eqns for v in eqn.outvars]
    return max([*sizes, *(largest(x) for x in inner if hasattr(x, "eqns"))], default=0)


TIME, WIDTH, STEPS = 256, 16, 16
LONG = {key: np.zeros((1, TIME, 2, WIDTH), np.float32) for key in ("q", "k", "v", "log_a")}
STATES = TIME * 2 * WIDTH * WIDTH  # the entries of a state for every step


@pytest.mark.parametrize("method", METHODS)
def test_no_array_holds_a_state_for_every_step(method):
    gradient = partial(gradients, partial(linear_attention, method=method, chunk=STEPS))
    assert STATES // STEPS <= largest(jax.make_jaxpr(gradient)(LONG, {})) <= 4 * STATES // STEPS
    assert largest(jax.make_jaxpr(partial(gradients, reference.linear_attention))(LONG, {})) >= STATES


@pytest.mark.parametrize("method", METHODS)
def test_kept_for_the_backward_pass_are_the_inputs_and_a_state_per_chunk(method):
    run = partial(linear_attention, method=method, chunk=STEPS)
    kept = jax.eval_shape(lambda x: jax.vjp(lambda x: run(**x), x)[1], LONG)
    inputs = sum(x.size for x in LONG.values())
    assert sum(x.size for x in jax.tree.leaves(kept)) <= 1.3 * (inputs + STATES // STEPS)


@pytest.mark.slow
def test_vmap_and_remat_inside_a_scan_over_layers_are_a_loop(close):
    x, _ = problem("none")
    layers = jnp.asarray([1.0, -0.5])

    def layer(v, factor, run):
        return run(x["q"], x["k"], factor * v, scale=0.1)[0], None

    def stacked(v, layers):
        run = partial(linear_attention, method="chunked", chunk=CHUNK)
        return jax.lax.scan(jax.checkpoint(partial(layer, run=run)), v, layers)[0]

    def loop(v, layers):
        return layer(layer(v, layers[0], reference.linear_attention)[0], layers[1], reference.linear_attention)[0]

    def gradient(f, v):
        y, pull = jax.vjp(f, v, layers)
        return y, pull(y)

    rows = jnp.stack([x["v"], -2 * x["v"]])
    close(*(jax.jit(jax.vmap(partial(gradient, f)))(rows) for f in (stacked, loop)))


def test_the_normaliser_is_the_attention_of_a_value_of_one(close):
    x, options = problem("scalar")
    x["state"] = (x["state"], random(9, B, H, K))

    def run(attend, x):
        y, den, state = attend(**x, **options)
        seen = options["mask"][..., None]
        return jnp.where(seen[..., None], y, 0), jnp.where(seen, den, 0), state

    wanted = jax.jit(partial(run, reference.normalized_linear_attention))(x)
    close(jax.jit(partial(run, partial(normalized_linear_attention, method="chunked", chunk=CHUNK)))(x), wanted)


def test_a_prefix_is_the_sum_of_its_tokens(close):
    x, mask = problem("none")[0], problem("scalar")[1]["mask"]
    k, v = (np.where(mask[..., None, None], x[key], np.nan) for key in "kv")
    keys = np.repeat(np.where(np.isnan(k), 0, k).astype(np.float64), H // G, axis=2)
    close(prefix_state(k, v, mask), (np.einsum("bthk,bthv->bhkv", keys, np.where(np.isnan(v), 0, v)), keys.sum(1)))


ONES = {"q": np.ones((B, T, G, K), np.float32), "v": np.ones((B, T, H, V), np.float32)}
ONES |= {"k": ONES["q"], "log_a": ONES["v"][..., 0]}
WRONG = {
    "q must have shape (B T G K), got (2, 11, 2)": {"q": ONES["q"][..., 0]},
    "k must have shape (B T G K) with K = 4, got (2, 11, 2, 3)": {"k": ONES["k"][..., 1:]},
    "v must have at least one time step, got shape (2, 0, 4, 3)": {key: value[:, :0] for key, value in ONES.items()},
    "q must be real floating point, got dtype complex64": {"q": ONES["q"] * 1j},
    "v must be real floating point, got dtype bool": {"v": ONES["v"] > 0},
    "the heads of q must divide those of v, got 2 and 3": {"v": ONES["v"][:, :, 1:], "log_a": None},
    "log_a must be float32 or wider (a decay of 0.999 rounds to 1 in bfloat16), got bfloat16": {
        "log_a": ONES["log_a"].astype(jnp.bfloat16)
    },
    "log_a must have shape (2, 11, 4, 4) or (2, 11, 4), or 1 in B or T there, got (2, 10, 4)": {
        "log_a": ONES["log_a"][:, 1:]
    },
    "log_a must have shape (2, 11, 4, 4) or (2, 11, 4), or 1 in B or T there, got (2, 11, 4, 1)": {
        "log_a": ONES["log_a"][..., None]
    },
    "state must have shape (B H K V) with V = 3, got (2, 4, 4, 4)": {"state": np.ones((B, H, K, K), np.float32)},
    "bonus must have shape (H K) with H = 4, got (2, 4)": {"bonus": np.ones((G, K), np.float32)},
    "reset must be boolean, got dtype float32": {"reset": ONES["v"][..., 0, 0]},
    "mask must have shape (B T) with T = 11, got (2, 10)": {"mask": ONES["v"][:, 1:, 0, 0] > 0},
    "chunk must be a positive int, got 0": {"chunk": 0},
    "method must be one of auto, chunked, associative, sequential, got 'fast'": {"method": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_attention(**{**ONES, **WRONG[message]})
