"""RWKV-6 against the authors' package, forward and stepped."""

from functools import partial
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta

from jaxseq.convert.families.rwkv6 import TIME_MIX
from jaxseq.convert.table import read, write
from jaxseq.mixers.base import Depth
from jaxseq.mixers.rwkv6 import RWKV6
from tests.mixers.oracle import assert_near, inputs, stepped
from tests.mixers.rwkv_package import load

B, T, D, H, K = 2, 21, 32, 4, 8
MIXER = RWKV6(D, head_dim=K, mix_rank=3, decay_rank=5)
ROWS = tuple(f"time_maa_{z}" for z in "xwkvrg")
MATRICES = tuple(f"{name}.weight" for name in ("key", "value", "receptance", "gate", "output"))


@pytest.fixture(scope="module")
def tensors():
    """A checkpoint's of one layer, matrices three times as large as usual, but for the values, which are so small that
    the norm's epsilon matters.
    """
    rng = np.random.default_rng(0)

    def matrix(*shape):
        return 3 * rng.normal(size=shape) / sqrt(shape[-2])

    found = {name: matrix(D, D) for name in MATRICES}
    found["value.weight"] *= 1e-3
    found |= {"time_maa_w1": matrix(D, 15), "time_maa_w2": matrix(5, 3, D)}
    found |= {"time_decay_w1": matrix(D, 5), "time_decay_w2": matrix(5, D) / 3}
    found |= {name: rng.normal(size=(1, 1, D)) for name in (*ROWS, "time_decay")}
    found |= {"time_faaaa": rng.normal(size=(H, K))}
    found |= {"ln_x.weight": rng.normal(size=D), "ln_x.bias": rng.normal(size=D)}
    return {name: torch.tensor(x, dtype=torch.float32) for name, x in found.items()}


def shapes(mixer):
    return meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, mixer.width))))["params"]


@pytest.fixture(scope="module")
def variables(tensors):
    return {"params": jax.tree.map(jnp.asarray, read(TIME_MIX, tensors, shapes(MIXER)))}


@pytest.fixture(scope="module")
def expected(tensors):
    """x (B, T, D) as the mixer has it, outputs, and last states (B, H, K, V)."""
    run = partial(load(6).RWKV.att_seq_v6_0, None)
    low_rank = ("time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2")
    decays = (tensors[name].reshape(H, K, 1) for name in ("time_decay", "time_faaaa"))
    vectors = [tensors[name].flatten() for name in ("ln_x.weight", "ln_x.bias", *ROWS)]
    weights = *vectors, *(tensors[name] for name in low_rank), *decays, *(tensors[name].T for name in MATRICES)
    eight_bit = [None] * 20  # scales of weights in eight bits
    rows = []
    for x in torch.tensor(inputs(D, T, B)):
        start = torch.zeros(D), torch.zeros(H, K, K), torch.ones(D), torch.zeros(D)  # the last two of a layer norm
        y, _, S = run(x, *start, *weights, *eight_bit)
        rows.append((torch.nn.functional.layer_norm(x, (D,)), y - x, S))
    return [torch.stack(part).numpy() for part in zip(*rows, strict=True)]


def test_outputs_and_state_are_the_authors(variables, expected):
    x, y, S = expected
    value, state = jax.jit(MIXER.apply)(variables, x)
    assert_near(value, y)
    assert np.max(np.abs(state["S"] - S)) <= 1e-4 * np.max(np.abs(S))  # too small for assert_near
    np.testing.assert_array_equal(state["shift"][:, 0], x[:, -1])


def test_stepped_outputs_are_the_authors(variables, expected):
    x, y, _ = expected
    assert_near(stepped(MIXER, variables, x), y)


def test_tensors_come_back_bit_for_bit(variables, tensors):
    written = write(TIME_MIX, variables["params"])
    assert {name: x.shape for name, x in written.items()} == {name: x.shape for name, x in tensors.items()}
    for name, x in written.items():
        np.testing.assert_array_equal(x, tensors[name].numpy())


def test_parameters_start_as_in_the_authors_training_code(close):
    width, size, layer, layers = 24, 4, 2, 5
    start = jax.jit(partial(RWKV6(width, head_dim=size).init, depth=Depth(jnp.int32(layer), layers)))
    params = meta.unbox(start(jax.random.key(0), jnp.zeros((1, 1, width))))["params"]
    depth, left, bonus = layer / (layers - 1), 1 - layer / layers, params["bonus"].flatten()
    for n in range(width):
        rise = n / (width - 1)
        wanted = {
            **{f"mu_{z}": 1 - (n / width) ** left for z in ("x", "w", "k")},
            **{f"mu_{z}": 1 - (n / width) ** (0.5 * left) for z in ("r", "g")},
            "mu_v": 1 - ((n / width) ** left + 0.3 * depth),
            "decay_bias": -6 + 5 * rise ** (0.7 + 1.3 * depth),
            "norm": ((1 + layer) / layers) ** 0.7,
            "norm_bias": 0,
        }
        np.testing.assert_allclose([params[name][n] for name in wanted], list(wanted.values()), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(bonus[n], depth * (1 - rise) + 0.1 * ((n + 1) % 3 - 1), atol=1e-6)
    for name, gain in (("w_r", 1), ("w_k", 0.1), ("w_v", 1), ("w_g", 0.1), ("w_o", 0)):
        close(params[name] @ params[name].T, gain**2 * np.eye(width))
    for name in ("mix", "decay"):
        np.testing.assert_array_equal(params[f"{name}_in"], 0)
        assert 0.0099 < np.max(np.abs(params[f"{name}_out"])) <= 0.01


def test_ranks_parameters_and_state_have_the_sizes_stated():
    mixer = RWKV6(768)
    params = shapes(mixer)
    assert params["mix_out"].shape == (5, 32, 768)
    assert params["decay_out"].shape == (64, 768)
    assert sum(x.size for x in params.values()) == 5 * 768**2 + (10 * 32 + 2 * 64 + 10) * 768
    assert sum(x.nbytes for x in jax.tree.leaves(mixer.init_state(1))) == 4 * (64 * 768 + 768)
