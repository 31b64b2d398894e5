"""RG-LRU against transformers' recurrent block, its start, its decays, and its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.recurrent_gemma.configuration_recurrent_gemma import RecurrentGemmaConfig
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

from jaxseq.convert.families.recurrent_gemma import RECURRENT
from jaxseq.mixers.rg_lru import RGLRU, bounded_sqrt
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, initial, state_bytes

D = 16


@pytest.fixture(scope="module")
def pair():
    """transformers' block with decays near 1, ours, and the weights of both."""
    config = RecurrentGemmaConfig(hidden_size=D, lru_width=D, num_attention_heads=4, conv1d_width=4)
    theirs = amplify(RecurrentGemmaRecurrentBlock(config, 0))
    theirs.rg_lru.recurrent_param.data -= 4
    ours = RGLRU(D, heads=4)
    return theirs, ours, crossed(RECURRENT, theirs, ours)


def outputs(block, x, positions):
    return block(x, positions, None, use_cache=False)[0].detach().numpy()


def test_it_is_transformers_recurrent_block(pair):
    theirs, ours, variables = pair
    x = inputs(D)
    time = torch.arange(x.shape[1]).expand(2, -1)
    y, _ = jax.jit(ours.apply)(variables, x)
    assert_near(y, outputs(theirs, torch.from_numpy(x), time))


def test_its_steps_are_those_of_transformers(pair):
    theirs, ours, variables = pair
    x = inputs(D)
    theirs._setup_cache(2, "cpu", torch.float32)
    expected = []
    for t in range(x.shape[1]):
        token = torch.from_numpy(x[:, t : t + 1])
        expected.append(theirs(token, torch.full((2, 1), t), None, use_cache=True)[0].detach().numpy())
    assert_near(stepped(ours, variables, x), np.concatenate(expected, axis=1))


def test_every_document_of_a_row_starts_as_transformers_do(pair):
    theirs, ours, variables = pair
    x, starts = inputs(D), (0, 6, 7)
    y, _ = jax.jit(ours.apply)(variables, x, reset=jnp.zeros(x.shape[:2], bool).at[:, starts].set(True))
    parts = np.split(x, starts[1:], axis=1)
    expected = [outputs(theirs, torch.from_numpy(part), torch.arange(part.shape[1]).expand(2, -1)) for part in parts]
    assert_near(y, np.concatenate(expected, axis=1))


def test_padding_before_a_document_does_not_take_its_start(pair):
    _, ours, variables = pair
    x = inputs(D)
    run = jax.jit(ours.apply)
    mask = np.broadcast_to(np.arange(x.shape[1]) >= 5, x.shape[:2])
    reset = np.zeros(x.shape[:2], bool)
    reset[:, 2] = True
    y, state = run(variables, x, reset=reset, mask=mask)
    assert_near(y[:, 5:], run(variables, x[:, 5:])[0], 5e-6)
    np.testing.assert_array_equal(state["length"], [16, 16])
    np.testing.assert_array_equal(run(variables, x, mask=np.zeros_like(mask))[1]["length"], [0, 0])


def test_the_slope_of_the_root_is_bounded_and_otherwise_exact(close):
    x = jnp.array([0.0, 1e-9, 1e-4, 0.5])
    close(jax.vmap(jax.grad(bounded_sqrt))(x), 0.5 / np.sqrt(np.maximum(x, 2.5e-7)))
    close(bounded_sqrt(x), np.sqrt(np.asarray(x, np.float64)))


def test_decays_start_in_the_range_given():
    mixer = RGLRU(D, inner=512, min_radius=0.5, max_radius=0.8)
    params = initial(mixer)
    square = np.exp(-2 * np.logaddexp(0, np.asarray(params["lambda"], np.float64)))
    assert 0.25 - 1e-6 <= square.min() < 0.26
    assert 0.63 < square.max() <= 0.64 + 1e-6
    np.testing.assert_allclose(square.mean(), (0.25 + 0.64) / 2, atol=0.015)  # uniform in the square
    np.testing.assert_allclose(np.std(params["conv_w"]), 0.05, rtol=0.05)
    np.testing.assert_allclose(np.std(params["w_r"]), (16 / 512) ** 0.5, rtol=0.05)


def test_sizes_are_those_stated():
    mixer = RGLRU(D, inner=24, heads=4, conv_width=3)
    assert count(mixer) == 3 * D * 24 + 2 * 24**2 // 4 + (3 + 6) * 24 + D
    assert state_bytes(mixer) == 4 * 24 + 4 * 2 * 24 + 4
