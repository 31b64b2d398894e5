"""Retention against its equations, and lightning attention against transformers' MiniMax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers.models.minimax.configuration_minimax import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxCache, MiniMaxLightningAttention

from jaxseq.convert.families.minimax import lightning
from jaxseq.mixers.base import Depth
from jaxseq.mixers.retnet import RetNet
from tests.mixers.oracle import amplify, assert_near, crossed, inputs
from tests.mixers.weights import count, drawn, initial, state_bytes, wide

D, H, LAYERS, LAYER = 16, 2, 4, 2


def definition(p, x):
    """y (T, D) of one row x (T, D): every output by its sum over all tokens before, positions as complex numbers."""
    q, k, v = x @ p["w_q"], x @ p["w_k"], x @ p["w_v"]
    time, gate, outputs = np.arange(len(x)), x @ p["w_g"], []
    for head in range(H):
        qh, kh, vh = (np.split(a, H, axis=1)[head] for a in (q, k, v))
        half = qh.shape[1] // 2
        angle = time[:, None] * 10000.0 ** (-np.arange(half) / half)
        qc, kc = ((a[:, :half] + 1j * a[:, half:]) * np.exp(1j * angle) for a in (qh, kh))
        lag = time[:, None] - time
        weight = np.where(lag >= 0, (1 - 2.0 ** (-5 - head)) ** np.maximum(lag, 0), 0) * (qc @ kc.conj().T).real
        o = weight @ vh / np.sqrt(2 * half)
        outputs.append(o / np.sqrt(np.mean(o**2, axis=1, keepdims=True) + 1e-6) * p["norm"])
    return (np.concatenate(outputs, axis=1) * gate * expit(gate)) @ p["w_o"]


def test_values_are_the_definition_s(close):
    mixer, x = RetNet(D, heads=H, key_width=12, value_width=20), inputs(D)
    params = drawn(mixer)
    y, _ = jax.jit(mixer.apply)({"params": params}, x)
    close(y, np.stack([definition(wide(params), row) for row in x.astype(np.float64)]))


@pytest.fixture(scope="module")
def pair():
    """transformers' layer, ours as (x, state) -> (y, state), and an empty state."""
    config = MiniMaxConfig(hidden_size=D, num_attention_heads=H, num_hidden_layers=LAYERS, block_size=8, head_dim=8)
    config.layer_types = ["linear_attention"] * LAYERS
    theirs = amplify(MiniMaxLightningAttention(config, LAYER))
    theirs._non_persistent_buffers_set.update(name for name, _ in theirs.named_buffers())
    mixer = RetNet(D, heads=H, form="lightning")
    variables = crossed(lightning(H), theirs, mixer)
    place = Depth(jnp.int32(LAYER), LAYERS)
    ours = jax.jit(lambda x, state: mixer.apply(variables, x, state=state, depth=place)[:2])
    return theirs, ours, mixer.init_state(2)


def test_it_is_transformers_lightning_attention(pair):
    theirs, ours, state = pair
    x = inputs(D)
    assert_near(ours(x, state)[0], theirs(torch.from_numpy(x), None, None)[0].detach())


def test_its_steps_are_those_of_transformers(pair):
    theirs, ours, state = pair
    x, found, expected = inputs(D), [], []
    cache = MiniMaxCache()
    for t in range(x.shape[1]):
        token = x[:, t : t + 1]
        y, state = ours(token, state)
        found.append(y)
        expected.append(theirs(torch.from_numpy(token), None, None, cache)[0].detach())
    assert_near(jnp.concatenate(found, axis=1), torch.cat(expected, dim=1))


@pytest.mark.parametrize(("index", "layers"), [(0, 1), (0, 12), (11, 12)])
def test_lightning_s_slopes_fall_with_depth(index, layers):
    depth = Depth(jnp.int32(index), layers)
    exact = 2.0 ** (-8 * np.arange(1, 5) / 4) * (1 - index / (layers - 1 + 1e-5) + 1e-5)
    found = RetNet(D, form="lightning")._log_decay(depth)
    np.testing.assert_allclose(found, -exact, rtol=1e-5)


def test_maps_start_at_the_scale_of_their_inputs():
    params = initial(RetNet(32))
    for name in ("w_q", "w_k", "w_v", "w_g"):
        np.testing.assert_allclose(np.std(params[name]), 32**-0.5, rtol=0.06)
    np.testing.assert_allclose(np.std(params["w_o"]), 64**-0.5, rtol=0.06)


@pytest.mark.parametrize(
    ("form", "parameters", "state"),
    [
        ("retnet", 2 * D * D + 6 * D * D + 2 * D // H, 4 * D * 2 * D // H + 4),
        ("lightning", 5 * D * D + D, 4 * D * D // H),
    ],
)
def test_sizes_are_those_stated(form, parameters, state):
    mixer = RetNet(D, heads=H, form=form)
    assert count(mixer) == parameters
    assert state_bytes(mixer) == state
