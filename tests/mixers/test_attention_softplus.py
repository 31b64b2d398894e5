"""Attention with softplus weights (LSSA and LSSAR) against its equations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.mixers.attention import Attention
from tests.mixers.oracle import inputs
from tests.mixers.test_attention import turned
from tests.mixers.weights import count, drawn, wide

D, T = 16, 24
LAYOUTS = {
    "full": {"heads": 2},
    "grouped-window": {"heads": 4, "kv_heads": 2, "window": 5},
    "one-key-head": {"heads": 4, "kv_heads": 1, "head_dim": 6, "context": 30},
}


def make(layout, power):
    mixer = Attention(D, **LAYOUTS[layout], weights="softplus", power=power)
    return mixer, drawn(mixer), inputs(D, T)


def definition(p, x, mixer):
    """y (T, D) of one document x (T, D), one query after another; ε is no part of it."""
    groups, width, slots = mixer.sizes()
    q, k, v = ((x @ p[name]).reshape(len(x), -1, width) for name in ("w_q", "w_k", "w_v"))
    q, k = (turned(a / np.linalg.norm(a, axis=2, keepdims=True), 10000.0) for a in (q, k))
    y = np.zeros((len(x), mixer.heads, width))
    for t in range(len(x)):
        first = max(0, t - slots + 1)
        n = t + 1 - first
        for head in range(mixer.heads):
            group = head // (mixer.heads // groups)
            a = np.log1p(np.exp(np.log(width) * np.log(n) * (k[first : t + 1, group] @ q[t, head])))
            a = a / a.sum()
            if mixer.power:
                a = np.maximum(a * n - (0 if n <= 3 else 1), 0) ** mixer.power
                a = a / a.sum()
            y[t, head] = a @ v[first : t + 1, group]
    return y.reshape(len(x), -1) @ p["w_o"]


@pytest.mark.parametrize("power", [0.0, 3.0, 15.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_the_definition_s(layout, power, close):
    mixer, params, x = make(layout, power)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(wide(params), row, mixer) for row in x.astype(np.float64)]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_at_the_power_of_the_paper_packed_and_padded_documents_are_separate_runs_in_any_parts(layout, close):
    mixer, params, x = make(layout, 15.0)
    mask, reset = np.ones((2, T), bool), np.zeros((2, T), bool)
    mask[0, [2, 3, 9]] = mask[1, -5:] = False
    reset[0, 8] = reset[1, 0] = True  # tokens 4 to 7 of row 0 are of a document that began with 0 and 1
    apply = jax.jit(mixer.apply)
    state, ys = mixer.init_state(2), []
    for part in np.split(np.arange(T), [1, 2, 7, 16]):
        y, state = apply({"params": params}, x[:, part], state=state, reset=reset[:, part], mask=mask[:, part])
        ys.append(y)
    y = np.concatenate(ys, axis=1)
    documents = [(0, np.r_[0, 1, 4:8]), (0, np.r_[8, 10:T]), (1, np.arange(T - 5))]
    for row, tokens in documents:
        close(y[row, tokens], definition(wide(params), x[row, tokens].astype(np.float64), mixer))


def test_gradients_at_the_power_of_the_paper_are_those_of_float64(as_users_do, close):
    mixer, params, x = make("full", 15.0)
    aim = inputs(D, T, 2)[::-1]

    def slopes(params, x):
        return jax.jit(jax.grad(lambda p, x: jnp.sum(aim * mixer.apply({"params": p}, x)[0]), (0, 1)))(params, x)

    with as_users_do():
        narrow = jax.tree.map(np.asarray, slopes(params, x))
    with jax.enable_x64(True):
        close(
            narrow, jax.tree.map(np.asarray, slopes(*jax.tree.map(jnp.asarray, (wide(params), x.astype(np.float64)))))
        )


def test_bfloat16_decoding_is_the_parallel_result_but_for_rare_roundings(close):
    """Keys come out of the ring as they went in: rounded there, they would move half of all outputs."""
    mixer, params, x = make("full", 15.0)
    x = jnp.asarray(x, jnp.bfloat16)
    step, state, ys = jax.jit(mixer.apply), mixer.init_state(2), []
    for t in range(T):
        y, state = step({"params": params}, x[:, t : t + 1], state=state)
        ys.append(y)
    y, _ = step({"params": params}, x)
    assert y.dtype == jnp.bfloat16
    close(jnp.concatenate(ys, axis=1), y, "bfloat16")
    assert float(jnp.mean(jnp.concatenate(ys, axis=1) != y)) < 0.05


def test_equal_tokens_without_positions_give_zero_from_the_fourth_on():
    mixer = Attention(D, heads=2, rope_fraction=0.0, weights="softplus")
    x = jnp.broadcast_to(inputs(D, 1, 1), (1, T, D))
    y, _ = jax.jit(mixer.apply)({"params": drawn(mixer)}, x)
    assert float(jnp.min(jnp.max(jnp.abs(y[0, :3]), axis=1))) > 0.1
    assert not y[0, 3:].any()


def test_a_token_of_zeros_has_finite_outputs_and_gradients():
    mixer, params, x = make("full", 15.0)
    x[:, 5] = 0
    loss = jax.value_and_grad(lambda x, p: jnp.sum(jnp.sin(mixer.apply({"params": p}, x)[0])), (0, 1))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(jax.jit(loss)(x, params)))


def test_it_has_the_parameters_of_the_softmax():
    for layout in LAYOUTS.values():
        assert count(Attention(D, **layout, weights="softplus")) == count(Attention(D, **layout))
