"""Our cells against other people's programs: torch.nn and flax, states and gradients in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxseq.cells import CELLS
from jaxseq.cells.nonlinearity import NONLINEARITIES, RANGES
from jaxseq.convert import cell_from_state_dict

TIME, BATCH, INPUT, STATE = 5, 2, 3, 4
PEERS = {"torch_rnn": torch.nn.RNN, "torch_gru": torch.nn.GRU, "torch_lstm": torch.nn.LSTM}

torch.set_num_threads(1)


def peer(layout):
    """A layer of torch with loud weights, inputs, and a state for each of its own, (1, B, D)."""
    torch.manual_seed(0)
    layer = PEERS[layout](INPUT, STATE, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(3)
    x = torch.randn(BATCH, TIME, INPUT, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(1, BATCH, STATE, dtype=torch.float64) for _ in range(2 if layout == "torch_lstm" else 1)]
    return layer, x, states


def march(cell, params, x, h):
    """y (B, T, D), one step after the other."""
    u = cell.inputs(params, x)
    outputs = []
    for t in range(x.shape[1]):
        u_t = jax.tree.map(lambda leaf, t=t: leaf[:, t], u)
        h = cell.step(params, h, u_t)
        outputs.append(cell.output(params, h, u_t))
    return jnp.stack(outputs, axis=1)


@pytest.mark.parametrize("layout", PEERS)
def test_outputs_and_gradients_are_those_of_torch(layout, close):
    layer, x, states = peer(layout)
    expected, _ = layer(x, (states[0], states[1]) if len(states) == 2 else states[0])
    weight = torch.randn_like(expected)
    (weight * expected).sum().backward()
    with jax.enable_x64(True):
        cell, params = cell_from_state_dict(layout, layer.state_dict())
        h0 = tuple(jnp.asarray(state[0].numpy()) for state in reversed(states))  # torch has (h, c), we c, h
        x0 = jnp.asarray(x.detach().numpy())

        def loss(params, x):
            y = march(cell, params, x, h0 if len(h0) == 2 else h0[0])
            return jnp.sum(jnp.asarray(weight.numpy()) * y), y

        (dparams, dx), y = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x0)
        close(y, expected.detach().numpy(), "float64")
        close(dx, x.grad.numpy(), "float64")
        # Read as weights, torch's gradients are ours; but a sum of two biases has one gradient, not two.
        gradients = {name: value.grad for name, value in layer.named_parameters()}
        inner = gradients["bias_hh_l0"].clone()
        gradients["bias_hh_l0"] = torch.zeros_like(inner)
        _, expected_gradients = cell_from_state_dict(layout, gradients)
        if layout == "torch_gru":
            expected_gradients["b_r"] = jnp.asarray(inner[2 * STATE :].numpy())[None]
        close(dparams, expected_gradients, "float64")


def test_torch_rnn_has_relu_too(close):
    layer = torch.nn.RNN(INPUT, STATE, nonlinearity="relu", batch_first=True, dtype=torch.float64)
    x = torch.randn(BATCH, TIME, INPUT, dtype=torch.float64)
    with jax.enable_x64(True):
        _, params = cell_from_state_dict("torch_rnn", layer.state_dict())
        cell = CELLS["elman"](INPUT, STATE, nonlinearity="relu")
        y = march(cell, params, jnp.asarray(x.numpy()), jnp.zeros((BATCH, STATE)))
    close(y, layer(x)[0].detach().numpy(), "float64")


def test_the_block_lstm_is_one_lstm_over_all_heads(close):
    layer, x, (h0, c0) = peer("torch_lstm")
    order = [1, 0, 2, 3]  # f, i, z, o among torch's i, f, g, o
    with jax.enable_x64(True):
        _, params = cell_from_state_dict("torch_lstm", layer.state_dict())
        params = {name: value[jnp.asarray(order)] for name, value in params.items()}
        cell = CELLS["block_lstm"](4, STATE, heads=2)
        params["w"] = jnp.concatenate([params["w"], jnp.zeros((4, 1, 1, STATE))], axis=2)
        x_wide = jnp.pad(jnp.asarray(x.detach().numpy()), ((0, 0), (0, 0), (0, 1)))
        y = march(cell, params, x_wide, (jnp.asarray(c0[0].numpy()), jnp.asarray(h0[0].numpy())))
    close(y, layer(x, (h0, c0))[0].detach().numpy(), "float64")


@pytest.mark.parametrize("name", ["gru", "flax_gru"])
def test_the_gru_is_that_of_flax(name, close):
    with jax.enable_x64(True):
        cell = CELLS[name](INPUT, STATE)
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(cell.init, jax.random.key(0))
        params = {key: jnp.asarray(rng.normal(size=like.shape)) for key, like in shapes.items()}
        h, x = jnp.asarray(rng.normal(size=(BATCH, STATE))), jnp.asarray(rng.normal(size=(BATCH, 1, INPUT)))
        theirs = {}
        for gate, letter in enumerate("rzn"):
            theirs[f"i{letter}"] = {"kernel": params["w"][gate, 0], "bias": params["b"][gate]}
            theirs[f"h{letter}"] = {"kernel": params["r"][gate, 0]}
        theirs["hn"]["bias"] = params["b_r"][0]
        expected, _ = nn.GRUCell(STATE).apply({"params": theirs}, h, x[:, 0])
        close(march(cell, params, x, h)[:, 0], expected, "float64")


@pytest.mark.parametrize("recurrent", ["dense", "diagonal"])
def test_recurrent_maps_of_the_flax_gru_start_orthogonal(recurrent, close):
    cell = CELLS["flax_gru"](INPUT, 2 * STATE, heads=1, recurrent=recurrent)
    r = np.asarray(cell.init(jax.random.key(0))["r"], np.float64)
    if recurrent == "diagonal":
        close(np.abs(r), np.ones((3, 2 * STATE)))
    else:
        close(np.einsum("ghij,ghik->ghjk", r, r), np.broadcast_to(np.eye(2 * STATE), r.shape))


THEIRS = {
    "elu": torch.nn.functional.elu,
    "exp": torch.exp,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "half_sigmoid": lambda x: torch.sigmoid(x) / 2,
    "identity": lambda x: x,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "relu": torch.relu,
    "selu": torch.selu,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities_are_those_of_torch(name, close):
    x = np.linspace(-9, 9, 37)  # torch's softplus is linear from 20 on
    with jax.enable_x64(True):
        close(NONLINEARITIES[name](jnp.asarray(x)), THEIRS[name](torch.from_numpy(x)).numpy(), "float64")


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_a_range_is_given_for_the_bounded_nonlinearities_alone(name):
    ends = NONLINEARITIES[name](jnp.asarray([-80.0, 80.0]))
    if name in RANGES:
        np.testing.assert_allclose(ends, RANGES[name], atol=1e-7)
    else:
        assert float(jnp.max(jnp.abs(ends))) > 10
