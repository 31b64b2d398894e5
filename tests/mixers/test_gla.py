"""GLA against its equations, one step and head after another in float64, and its sizes."""

import jax
import numpy as np
import pytest
from scipy.special import expit

from jaxseq.mixers.gla import GLA
from tests.mixers.oracle import inputs, stepped
from tests.mixers.weights import count, drawn, initial, shapes, state_bytes, wide

D, H = 16, 2


def silu(x):
    return x * expit(x)


def convolved(x, w):
    """Causal taps w (W, C) over x (T, C), the last tap for the current token."""
    padded = np.concatenate([np.zeros((len(w) - 1, x.shape[1])), x])
    return np.stack([sum(w[i] * padded[t + i] for i in range(len(w))) for t in range(len(x))])


def definition(p, x, temperature):
    """y (T, D) of one row x (T, D), head by head."""
    q, k, v = x @ p["w_q"], x @ p["w_k"], x @ p["w_v"]
    if "conv_q_w" in p:
        q, k, v = (silu(convolved(a, p[f"conv_{name}_w"])) for a, name in ((q, "q"), (k, "k"), (v, "v")))
    decay = expit(x @ p["w_low"] @ p["w_decay"] + p["b_decay"]) ** (1 / temperature)
    gate, outputs = silu(x @ p["w_g"]), []
    for head in range(H):
        qh, kh, vh, ah = (np.split(a, H, axis=1)[head] for a in (q, k, v, decay))
        S, out = np.zeros((kh.shape[1], vh.shape[1])), np.zeros_like(vh)
        for t in range(len(x)):
            S = ah[t][:, None] * S + np.outer(kh[t], vh[t])
            out[t] = qh[t] @ S / np.sqrt(kh.shape[1])
        outputs.append(out / np.sqrt(np.mean(out**2, axis=1, keepdims=True) + 1e-6) * p["norm"])
    return (np.concatenate(outputs, axis=1) * gate) @ p["w_o"]


@pytest.mark.parametrize("options", [{}, {"conv_width": 3, "key_width": 12, "value_width": 20, "temperature": 2.0}])
def test_values_are_the_definition_s(options, close):
    mixer, x = GLA(D, heads=H, gate_rank=3, **options), inputs(D)
    params = drawn(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(wide(params), row, mixer.temperature) for row in x.astype(np.float64)]))


def test_decays_start_near_one():
    """b is zero at first: log α is around log(1/2) / 16."""
    params = initial(GLA(64))
    np.testing.assert_array_equal(params["b_decay"], np.zeros(32))
    np.testing.assert_allclose(np.std(params["w_decay"]), 1 / 4, rtol=0.1)
    np.testing.assert_allclose(np.std(params["w_low"]), 1 / 8, rtol=0.1)


def test_sizes_are_those_stated():
    keys, values, taps, rank = 12, 20, 3, 5
    mixer = GLA(D, heads=H, key_width=keys, value_width=values, gate_rank=rank, conv_width=taps)
    assert count(mixer) == (
        2 * D * keys + 3 * D * values + (D + keys) * rank + keys + values // H + taps * (2 * keys + values)
    )
    assert state_bytes(mixer) == 4 * keys * values // H + 4 * (taps - 1) * (2 * keys + values)
    assert state_bytes(GLA(1024)) == 4 * 512 * 256


def test_without_convolutions_there_are_no_taps():
    assert not [name for name in shapes(GLA(D)) if name.startswith("conv")]


def test_convolutions_carry_their_state_and_keep_to_their_document(close):
    mixer, x = GLA(D, heads=H, conv_width=3), inputs(D)
    variables = {"params": drawn(mixer, by=1)}
    run = jax.jit(mixer.apply)
    close(stepped(mixer, variables, x), run(variables, x)[0])
    at = np.zeros(x.shape[:2], bool)
    at[:, 8] = True  # padding where a document starts: the next token is its first
    y, _ = run(variables, x, reset=at, mask=~at)
    close(y[:, 9:], stepped(mixer, variables, x[:, 9:]))
