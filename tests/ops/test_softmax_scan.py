"""softmax_scan against float64 sums of exponentials, and against RWKV-4's equation written out."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import reference, softmax_scan

B, T, H, V = 2, 12, 3, 2
METHODS = ("sequential", "associative", "chunked")


@cache
def problem(spread):
    """s, v, state, decay and bonus as keywords; flags under which every document starts with a token that counts."""
    rng = np.random.default_rng(0)
    arrays = {"s": spread * rng.uniform(-1, 1, (B, T, H)), "v": rng.normal(size=(B, T, H, V))}
    state = (spread * rng.uniform(-1, 1, (B, H)), rng.uniform(1, 2, (B, H)), rng.normal(size=(B, H, V)))
    arrays = {**arrays, "state": state, "decay": rng.uniform(0, 0.5, H), "bonus": rng.normal(size=H)}
    reset, mask = rng.random((B, T)) < 0.2, rng.random((B, T)) < 0.8
    reset[:, 0], mask[0, 0] = False, False  # one row's state passes a step of padding first
    return jax.tree.map(lambda x: np.asarray(x, np.float32), arrays), {"reset": reset, "mask": mask | reset}


def run_with_gradients(op, options, mask, arrays):
    """o where it is specified, the last sums whatever their units, and the cotangents of every array."""

    def specified(arrays):
        o, sums = op(**arrays, **options)
        if len(sums) == 3:
            m, u, w = sums
            sums = jnp.exp(m) * u, jnp.exp(m)[..., None] * w
        return jnp.where(mask[..., None, None], o, 0), sums

    (o, sums), pull = jax.vjp(specified, arrays)
    g = np.random.default_rng(1).normal(size=(B, T, H, V))
    return o, sums, pull((jnp.asarray(g, o.dtype), jax.tree.map(jnp.zeros_like, sums)))[0]


def given(keys, spread):
    """The arrays of those names, and flags that fit."""
    arrays, flags = problem(spread)
    if "state" not in keys:
        flags = {**flags, "mask": flags["mask"] | (np.arange(T) == 0)}
    return {key: arrays[key] for key in keys}, flags


@cache
def compiled(op, method=None):
    options = {} if method is None else {"method": method}
    return jax.jit(lambda arrays, flags: run_with_gradients(op, {**flags, **options}, flags["mask"], arrays))


def ours_and_wanted(keys, spread=1.0, kind="float32"):
    arrays, flags = given(keys, spread)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), arrays)
        wanted = jax.tree.map(np.asarray, compiled(reference.softmax_scan)(wide, flags))
    with jax.enable_x64(kind == "float64"):
        return compiled(softmax_scan)(jax.tree.map(lambda x: jnp.asarray(x, kind), arrays), flags), wanted


def test_values_and_gradients_are_the_reference_s(close):
    close(*ours_and_wanted(("s", "v", "state", "decay", "bonus")))


@cache
def forward(method):
    return jax.jit(partial(softmax_scan, method=method))


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_gives_the_same(method, close):
    arrays, flags = problem(1.0)
    close(*(forward(name)(**arrays, **flags) for name in (method, METHODS[0])))


def test_without_a_bonus_the_current_token_is_one_of_all(close):
    close(*ours_and_wanted(("s", "v")))


def test_a_constant_added_to_all_scores_changes_nothing(close):
    arrays, flags = problem(1.0)
    s, m = (np.round(256 * x) / 256 for x in (arrays["s"], arrays["state"][0]))  # exact with 4096 added, too

    def run(s, m):
        return forward(METHODS[0])(**{**arrays, "s": s, "state": (m, *arrays["state"][1:])}, **flags)[0]

    close(run(s + 4096, m + 4096), run(s, m))


def test_scores_of_any_size_neither_over_nor_underflow(close):
    (o, _, gradient), (wanted, *_) = ours_and_wanted(("s", "v", "state", "decay", "bonus"), 80.0)
    close(o, wanted)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(gradient))


def test_derivatives_are_exact_where_one_score_outweighs_all(close):
    # In float64: they are differences of what almost cancels, 1.3e-5 of the largest in float32.
    (o, _, gradient), (wanted, _, expected) = ours_and_wanted(("s", "v", "state", "decay", "bonus"), 80.0, "float64")
    close((o, gradient), (wanted, expected), "float64")


def test_with_a_bonus_it_is_the_wkv_of_rwkv_4(close):
    arrays, _ = problem(1.0)
    k, v, w, u = (arrays[name].astype(np.float64)[..., None] for name in ("s", "v", "decay", "bonus"))
    wanted = []
    for t in range(T):  # numerator and denominator of equation 14, summed term by term
        past, now = [np.exp(-(t - 1 - j) * w + k[:, j]) for j in range(t)], np.exp(u + k[:, t])
        numerator = sum((e * v[:, j, ..., 0] for j, e in enumerate(past)), start=now * v[:, t, ..., 0])
        wanted.append(numerator / sum(past, start=now))
    o, _ = jax.jit(softmax_scan)(arrays["s"], arrays["v"], decay=arrays["decay"], bonus=arrays["bonus"])
    close(o, np.stack(wanted, axis=1))


def test_two_halves_with_the_state_carried_are_the_whole(close):
    arrays, flags = problem(1.0)
    constant = {"decay": arrays["decay"], "bonus": arrays["bonus"]}

    def part(state, steps):
        timed = {key: x[:, steps] for key, x in {"s": arrays["s"], "v": arrays["v"], **flags}.items()}
        return forward(METHODS[0])(**timed, state=state, **constant)

    (first, state), (both, final) = part(arrays["state"], slice(0, 6)), part(arrays["state"], slice(None))
    second, end = part(state, slice(6, None))
    close((jnp.concatenate([first, second], axis=1), end), (both, final))


@jax.jit
def without_a_state(s, v, decay, bonus, mask):
    o, pull = jax.vjp(lambda s, v: softmax_scan(s, v, decay=decay, bonus=bonus, mask=mask)[0], s, v)
    return o, pull(jnp.ones_like(o))


@pytest.mark.parametrize("absent", ["mask", "score"])
def test_before_the_first_token_that_counts_the_output_is_zero_and_derivatives_are_finite(absent):
    arrays, _ = problem(1.0)
    counts = jnp.broadcast_to(jnp.arange(T) >= 3, (B, T))
    s = jnp.where(counts[..., None], arrays["s"], arrays["s"] if absent == "mask" else -jnp.inf)
    mask = counts | (absent == "score")
    o, cotangents = without_a_state(s, arrays["v"], arrays["decay"], arrays["bonus"], mask)
    assert bool(jnp.all(o[:, :3] == 0))
    assert bool(jnp.all(o[:, 3:] != 0))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in cotangents)


@pytest.mark.parametrize("name", ["s", "v"])
def test_a_nan_stays_in_its_row_and_its_document(name):
    arrays, _ = problem(1.0)
    reset = jnp.zeros((B, T), bool).at[1, 7].set(True)
    run = partial(forward(METHODS[0]), reset=reset, mask=jnp.ones((B, T), bool))
    dirty = {**arrays, name: jnp.asarray(arrays[name]).at[1, 3].set(jnp.nan)}
    clean, poisoned = run(**arrays)[0], run(**dirty)[0]
    assert bool(jnp.all(jnp.isnan(poisoned[1, 3:7])))
    assert bool(jnp.all(poisoned.at[1, 3:7].set(clean[1, 3:7]) == clean))


def test_the_state_of_bfloat16_values_is_float32():
    arrays, flags = problem(1.0)
    half = {**arrays, "v": jnp.asarray(arrays["v"], jnp.bfloat16)}
    o, state = jax.eval_shape(softmax_scan, **half, **flags)
    assert o.dtype == jnp.bfloat16
    assert {x.dtype for x in state} == {jnp.dtype(jnp.float32)}


S, X = np.ones((B, T, H), np.float32), np.ones((B, T, H, V), np.float32)
WRONG = {
    "s must be real floating point, got dtype int32": {"s": S.astype(np.int32)},
    "s must have at least one time step, got shape (2, 0, 3)": {"s": S[:, :0], "v": X[:, :0]},
    "v must have shape (B T H V) with H = 3, got (2, 12, 2, 2)": {"v": X[:, :, 1:]},
    "w must have shape (B H V) with V = 2, got (2, 3, 1)": {"state": (S[:, 0], S[:, 0], X[:, 0, :, 1:])},
    "decay must broadcast to (H,) = (3,), got shape (2,)": {"decay": S[0, 0, 1:]},
    "decay must be float32 or wider (a decay of 0.999 rounds to 1 in bfloat16), got bfloat16": {
        "decay": np.ones(H, jnp.bfloat16)
    },
    "bonus must broadcast to (H,) = (3,), got shape (12, 3)": {"bonus": S[0]},
    "mask must have shape (B T) with T = 12, got (2, 11)": {"mask": S[:, 1:, 0] > 0},
    "method must be one of auto, sequential, associative, chunked, kernel:tpu, ": {"method": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        softmax_scan(**{"s": S, "v": X, **WRONG[message]})
