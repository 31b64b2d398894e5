"""RWKV-7 against the authors' package: two layers, so that the values of the first one enter the second."""

from functools import partial
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta

from jaxseq.convert.families.rwkv7 import TIME_MIX
from jaxseq.convert.table import read, write
from jaxseq.mixers.base import Depth
from jaxseq.mixers.rwkv7 import RWKV7
from jaxseq.model import LanguageModel, ModelConfig
from tests.mixers.oracle import assert_near, inputs
from tests.mixers.rwkv_package import load

B, T, D, H, K, LAYERS = 2, 21, 32, 4, 8, 2
RANKS = {"decay": 5, "eta": 6, "value": 3, "gate": 7}
MIXER = RWKV7(D, head_dim=K, **{f"{name}_rank": rank for name, rank in RANKS.items()})
ROWS = ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a")
MATRICES = tuple(f"{name}.weight" for name in ("receptance", "key", "value", "output"))
ORDER = (  # of the arguments that are weights
    *(*ROWS[:6], "w0", "w1", "w2", "a0", "a1", "a2", "v0", "v1", "v2", "g1", "g2", "k_k", "k_a", "r_k"),
    *(*MATRICES, "ln_x.weight", "ln_x.bias"),
)


def random_layer(layer):
    """A checkpoint's tensors of a layer, matrices three times as large as usual, but for the second layer's keys, which
    are so small that the norm's epsilon matters.
    """
    rng = np.random.default_rng(layer)
    tensors = {name: 3 * rng.normal(size=(D, D)) / sqrt(D) for name in MATRICES}
    tensors["key.weight"] *= (1, 3e-4)[layer]
    for z, rank in zip("wavg", RANKS.values(), strict=True):
        tensors[f"{z}1"] = 3 * rng.normal(size=(D, rank)) / sqrt(D)
        tensors[f"{z}2"] = 3 * rng.normal(size=(rank, D)) / sqrt(rank)
    tensors |= {name: rng.normal(size=(1, 1, D)) for name in ROWS}
    tensors |= {"r_k": rng.normal(size=(H, K)), "ln_x.weight": rng.normal(size=D), "ln_x.bias": rng.normal(size=D)}
    return {name: torch.tensor(x, dtype=torch.float32) for name, x in tensors.items()}


TENSORS = [random_layer(layer) for layer in range(LAYERS)]
X = np.stack([inputs(D, T, B), inputs(D, T, B)[:, ::-1]])  # of each layer


def shapes(mixer):
    return meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, mixer.width))))["params"]


@pytest.fixture(scope="module")
def variables():
    return [{"params": jax.tree.map(jnp.asarray, read(TIME_MIX, tensors, shapes(MIXER)))} for tensors in TENSORS]


@pytest.fixture(scope="module")
def authors():
    """Their layer: (layer, x (T, D), v_first) -> y (T, D), the last state (V, K), v_first."""
    run = load(7).RWKV_x070_TMix_seq

    def one(layer, x, first):
        weights = [as_argument(name, TENSORS[layer][name]) for name in ORDER]
        y, _, S, first = run(layer, H, K, x, torch.zeros(D), first, torch.zeros(H, K, K), *weights)
        return y, S, first

    return one


@pytest.fixture(scope="module")
def expected(authors):
    """Outputs (LAYERS, B, T, D) and last states (LAYERS, B, H, K, V), one sequence at a time."""
    y, S = np.zeros(X.shape), np.zeros((LAYERS, B, H, K, K))
    for b in range(B):
        first = torch.empty(0)
        for layer in range(LAYERS):
            y[layer, b], state, first = authors(layer, torch.tensor(X[layer, b].copy()), first)
            S[layer, b] = state.mT
    return y, S


def as_argument(name, x):
    """A tensor as the package has it after loading."""
    return x.T if name in MATRICES else x.flatten() if name == "r_k" else x.squeeze()


@jax.jit
def run_layer(variables, x, state, index, first):
    return MIXER.apply(variables, x, state=state, depth=Depth(index, LAYERS, None, first))


def run_layers(variables, part):
    """Outputs and last states of both layers, `part` tokens at a time."""
    states, ys = [MIXER.init_state(B) for _ in range(LAYERS)], []
    for t in range(0, T, part):
        first, row = jnp.zeros((B, part, D)), []
        for layer in range(LAYERS):
            given = variables[layer], X[layer, :, t : t + part], states[layer]
            y, states[layer], first = run_layer(*given, jnp.int32(layer), first)
            row.append(y)
        ys.append(jnp.stack(row))
    return jnp.concatenate(ys, axis=2), jnp.stack([state["S"] for state in states])


@pytest.mark.parametrize("part", [T, 1], ids=["whole", "stepped"])
def test_two_layers_are_the_authors(variables, expected, part):
    for value, wanted in zip(run_layers(variables, part), expected, strict=True):
        for layer in range(LAYERS):
            assert_near(value[layer], wanted[layer])


def test_a_model_gives_the_first_layer_s_values_to_the_second(variables, authors):
    options = {"rwkv7": {"head_dim": K, **{f"{name}_rank": rank for name, rank in RANKS.items()}}}
    kind = {"residual_scale": False, "norm": "layer", "norm_eps": 1e-5, "mlp_width": 0}
    model = LanguageModel(ModelConfig(vocab=7, width=D, layers=LAYERS, pattern=("rwkv7",), options=options, **kind))
    tokens = np.random.default_rng(0).integers(7, size=(1, T))
    params = jax.tree.map(jnp.zeros_like, meta.unbox(jax.eval_shape(model.init, jax.random.key(0), tokens))["params"])
    block = params["layers"]["block_0"]
    block["mixer"] = jax.tree.map(lambda *x: jnp.stack(x), *(given["params"] for given in variables))
    block["mixer_norm"], params["norm"] = jnp.ones((LAYERS, D)), jnp.ones(D)
    params["embedding"], params["head"] = jnp.asarray(inputs(D, 7)[0]), jnp.eye(D)[:, :7]
    x, first = torch.tensor(inputs(D, 7)[0][tokens[0]]), torch.empty(0)
    for layer in range(LAYERS):
        y, _, first = authors(layer, torch.nn.functional.layer_norm(x, (D,)), first)
        x = x + y
    logits, _ = jax.jit(model.apply)({"params": params}, tokens)
    assert_near(logits[0], torch.nn.functional.layer_norm(x, (D,))[:, :7])


def test_tensors_come_back_bit_for_bit(variables):
    for tensors, given in zip(TENSORS, variables, strict=True):
        written = write(TIME_MIX, given["params"])
        assert {name: x.shape for name, x in written.items()} == {name: x.shape for name, x in tensors.items()}
        for name, x in written.items():
            np.testing.assert_array_equal(x, tensors[name].numpy())


def test_outside_a_model_it_is_a_first_layer(variables, close):
    x, none = X[0, :, :1], jnp.zeros((B, 1, D))
    as_first = run_layer(variables[0], x, MIXER.init_state(B), jnp.int32(0), none)
    close(jax.jit(MIXER.apply)(variables[0], x), as_first[:2])


def test_parameters_start_as_in_the_authors_training_code(close):
    width, size, layer, layers = 24, 4, 2, 5
    place = Depth(jnp.int32(layer), layers, first=jnp.zeros((1, 1, width)))
    start = jax.jit(partial(RWKV7(width, head_dim=size).init, depth=place))
    params = meta.unbox(start(jax.random.key(0), jnp.zeros((1, 1, width))))["params"]
    depth, left = layer / (layers - 1), 1 - layer / layers
    for n in range(width):
        place = (n % size - (size - 1) / 2) / ((size - 1) / 2)
        zigzag, rise = place * abs(place), n / (width - 1)
        wanted = {
            **{f"mu_{z}": 1 - (n / width) ** (0.2 * left) for z in ("r", "g")},
            **{f"mu_{z}": 1 - (n / width) ** (0.9 * left) for z in ("w", "eta")},
            **{f"mu_{z}": 1 - (n / width) ** (0.7 * left) for z in ("k", "v")},
            "decay_bias": -6 + 6 * rise ** (1 + depth**0.3) + 0.5 + 2.5 * zigzag,
            "eta_bias": -0.19 + 0.3 * zigzag + 0.4 * (rise - 0.5),
            "value_bias": 0.73 - 0.4 * (rise - 0.5),
            "xi": 0.71 - 0.1 * (rise - 0.5),
            "alpha": 1.02,
            "norm": ((1 + layer) / layers) ** 0.7,
            "norm_bias": 0,
        }
        np.testing.assert_allclose([params[name][n] for name in wanted], list(wanted.values()), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(params["rho"], np.full((width // size, size), -0.04, np.float32))
    for name, gain in (("w_r", 1), ("w_k", 0.1), ("w_v", 1), ("w_o", 0)):
        close(params[name] @ params[name].T, gain**2 * np.eye(width))
    for name in RANKS:
        np.testing.assert_array_equal(params[f"{name}_in"], 0)
        close(params[f"{name}_out"].T @ params[f"{name}_out"], 0.01 * 32 / width * np.eye(width))


def test_ranks_parameters_and_state_have_the_sizes_stated():
    mixer = RWKV7(1024)
    params = shapes(mixer)
    ranks = [params[f"{name}_in"].shape[1] for name in RANKS]
    assert ranks == [64, 64, 64, 160]
    assert sum(x.size for x in params.values()) == 4 * 1024**2 + 2 * 1024 * sum(ranks) + 14 * 1024
    assert sum(x.nbytes for x in jax.tree.leaves(mixer.init_state(1))) == 4 * (64 * 1024 + 1024)
