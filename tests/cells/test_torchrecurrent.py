"""Every cell of torchrecurrent 0.2.5 against ours, weights read from and written to its state dicts."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchrecurrent

from jaxseq.cells import CELLS
from jaxseq.convert import LAYOUTS, cell_from_state_dict, cell_to_state_dict

torch.set_num_threads(1)

NAMES = sorted(name.removeprefix("torchrecurrent_") for name in LAYOUTS if name.startswith("torchrecurrent_"))
SPELT = {"cornn": "coRNN", "lem_stale": "LEM", "scrn_torchrecurrent": "SCRN", "tau_gru": "tauGRU"}
THEIRS = {name: SPELT.get(name, CELLS[name].__name__) for name in NAMES}
OWN_INIT = {
    "cornn",
    "ind_rnn",
    "janet",
    "lem_stale",
    "ligru",
    "mgu",
    "peephole_lstm",
    "scrn_torchrecurrent",
    "unicornn",
}
D_INPUT, D_STATE, BATCH, TIME = 3, 4, 2, 5
each = pytest.mark.parametrize("name", NAMES)


def theirs(name, d_state=D_STATE, d_input=D_INPUT):
    """A torchrecurrent cell in float64."""
    d_input = d_state if name == "intersection_rnn" else d_input
    return getattr(torchrecurrent, f"{THEIRS[name]}Cell")(d_input, d_state, dtype=torch.float64)


def amplified(name, seed=0):
    """One with three times its default weights, and biases on both sides."""
    torch.manual_seed(seed)
    cell = theirs(name)
    with torch.no_grad():
        for key, tensor in cell.state_dict().items():
            tensor.copy_(torch.randn_like(tensor) if key.startswith("bias") else 3 * tensor)
    return cell


def start(name):
    """A random state as torchrecurrent has it."""
    h, c, x = torch.randn(BATCH, D_STATE), torch.randn(BATCH, D_STATE), torch.randn(BATCH, D_INPUT)
    h, c, x = h.double(), c.double(), x.double()
    special = {"janet": (h, h), "ran": (torch.tanh(c), c), "t_gru": (h, x), "t_lstm": (c, x), "tau_gru": (h, c)}
    return special.get(name, (h, c) if theirs(name).uses_double_state() else h)


def their_step(name, cell, x, state):
    """(output, next state) of a torchrecurrent cell, whatever it returns."""
    if name == "tau_gru":
        return (h := cell(x, *state)), (h, state[0])
    found = cell(x, state)
    if name in ("intersection_rnn", "mclstm", "t_lstm"):
        return found
    return (found[0], found) if isinstance(found, tuple) else (found, found)


def as_ours(name, cell, output, state):
    """A state of theirs, and the output that came with it, in the form of our cell's state."""
    if name in ("t_gru", "t_lstm"):
        past = (state[1] @ cell.weight_hh.T).chunk(3, -1)
        found = (*past, *state[:1]) if name == "t_gru" else (*past, state[0], output)
    elif name in ("ran", "janet"):
        found = state[1]
    elif name == "tau_gru":
        found = state
    elif name == "mclstm":
        found = (*state, output)
    elif name == "intersection_rnn":
        found = (state, output)
    else:
        found = state[::-1] if isinstance(state, tuple) else state
    return jax.tree.map(lambda x: jnp.asarray(x.detach().numpy()), found)


def run_theirs(name, cell, x, state):
    """Our form of their states after each step, and their outputs, time first."""
    states, outputs = [], []
    for x_t in x.unbind(1):
        y, state = their_step(name, cell, x_t, state)
        states.append(as_ours(name, cell, y, state))
        outputs.append(y.detach().numpy())
    return jax.tree.map(lambda *s: np.stack(s), *states), np.stack(outputs)


def run_ours(cell, params, x, h):
    """Our states and outputs, time first."""
    u = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), cell.inputs(params, x))
    states = []
    for t in range(TIME):
        h = cell.step(params, h, jax.tree.map(lambda leaf, t=t: leaf[t], u))
        states.append(h)
    states = jax.tree.map(lambda *s: jnp.stack(s), *states)
    return states, cell.output(params, states, u)


def sequence(cell):
    return torch.randn(BATCH, TIME, cell.input_size, dtype=torch.float64)


def test_every_exported_cell_has_a_layout():
    exported = {name for name in torchrecurrent.__all__ if name.endswith("Cell")}
    assert exported == {f"{name}Cell" for name in THEIRS.values()}
    assert len(exported) == len(THEIRS) == 41


@each
def test_states_and_outputs_are_theirs(name, close):
    with jax.enable_x64(True):
        cell = amplified(name)
        x, state = sequence(cell), start(name)
        unseen = torch.randn(BATCH, D_STATE, dtype=torch.float64)  # a state that only the output reads
        states, outputs = run_theirs(name, cell, x, state)
        ours, params = cell_from_state_dict(f"torchrecurrent_{name}", cell.state_dict())
        found = run_ours(ours, params, jnp.asarray(x.numpy()), as_ours(name, cell, unseen, state))
        close(found, (states, outputs), "float64")
        assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves((params, found)))


@each
def test_weights_written_are_read_back_bit_by_bit_and_theirs_to_run(name, close):
    with jax.enable_x64(True):
        ours, params = cell_from_state_dict(f"torchrecurrent_{name}", amplified(name).state_dict())
        params["w"] = params["w"].at[0, 0, 0].set(-0.0)  # a zero has a sign
        cell = theirs(name)
        written = cell_to_state_dict(f"torchrecurrent_{name}", ours, params)
        cell.load_state_dict({key: torch.from_numpy(value) for key, value in written.items()}, strict=True)
        again, back = cell_from_state_dict(f"torchrecurrent_{name}", cell.state_dict())
        assert again == ours
        assert {key: x.tobytes() for key, x in back.items()} == {key: x.tobytes() for key, x in params.items()}
        x, state = sequence(cell), start(name)
        expected = run_theirs(name, cell, x, state)
        close(run_ours(ours, params, jnp.asarray(x.numpy()), as_ours(name, cell, state[0], state)), expected, "float64")


@pytest.mark.parametrize("name", sorted(set(NAMES) - OWN_INIT))
def test_initialisation_is_distributed_as_theirs(name, monkeypatch):
    rng = np.random.default_rng(0)  # numpy's samplers: one of jax's for every shape takes a second to compile
    monkeypatch.setattr(jax.random, "normal", lambda key, shape: rng.normal(size=shape))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, minval, maxval: rng.uniform(minval, maxval, shape))
    torch.manual_seed(0)
    cell = theirs(name, 48, 32)
    ours = CELLS[name](cell.input_size, 48)
    params = ours.init(jax.random.key(0))
    for key, value in cell_to_state_dict(f"torchrecurrent_{name}", ours, params).items():
        expected = cell.state_dict()[key].numpy()
        spread = 4 / np.sqrt(expected.size)
        np.testing.assert_allclose(np.std(value), np.std(expected), rtol=spread, err_msg=key)
        np.testing.assert_allclose(np.mean(value), np.mean(expected), atol=spread * np.std(expected), err_msg=key)
        if expected.size > 1000:  # a uniform has an edge, a normal has none
            np.testing.assert_allclose(np.max(np.abs(value)), np.max(np.abs(expected)), rtol=0.3, err_msg=key)


def test_fast_grnn_is_read_with_their_gate_and_has_the_papers_by_default():
    cell, _ = cell_from_state_dict("torchrecurrent_fast_grnn", theirs("fast_grnn").state_dict())
    assert (cell.gate, CELLS["fast_grnn"](3, 4).gate) == ("tanh", "sigmoid")


def test_a_gate_of_fast_grnn_may_be_a_sigmoid(close):
    with jax.enable_x64(True):
        cell = torchrecurrent.FastGRNNCell(D_INPUT, D_STATE, nonlinearity="sigmoid", dtype=torch.float64)
        ours, params = cell_from_state_dict("torchrecurrent_fast_grnn", cell.state_dict())
        x, h = torch.randn(BATCH, D_INPUT).double(), torch.randn(BATCH, D_STATE).double()
        u = ours.inputs(params, jnp.asarray(x.numpy()))
        found = dataclasses.replace(ours, gate="sigmoid").step(params, jnp.asarray(h.numpy()), u)
        close(found, cell(x, h).detach().numpy(), "float64")


def changed(**tensors):
    """A state dict of MUT1 with some tensors replaced, or left out if None."""
    found = {**theirs("mut1").state_dict(), **tensors}
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        (changed(bias_hh=None), "state_dict must have the tensor bias_hh, got weight_ih, weight_hh, bias_ih"),
        (changed(weight_ih=None), "state_dict must have the tensor weight_ih"),
        (changed(weight_ph=torch.ones(3)), "alone, got the tensor weight_ph"),
        (changed(weight_hh=torch.ones(8, 3)), "weight_hh must be (8, 4), got shape (8, 3)"),
        (changed(weight_ih=torch.ones(10, 3)), "weight_ih must be (3 d_state, d_input), got shape (10, 3)"),
        (changed(bias_hh=torch.ones(8, 1)), "bias_hh must be (8), got shape (8, 1)"),
    ],
)
def test_a_wrong_state_dict_is_refused_by_the_tensors_name(state_dict, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cell_from_state_dict("torchrecurrent_mut1", state_dict)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (CELLS["mut2"](3, 4), "cell must be of class MUT1, got MUT2"),
        (CELLS["mut1"](4, 4, heads=2), "params['r'] must have shape (2, 1, 4, 4), one head, got (2, 2, 2, 2)"),
        (CELLS["mut1"](3, 4, recurrent="diagonal"), "params['r'] must have shape (2, 1, 4, 4), one head, got (2, 4)"),
    ],
)
def test_a_cell_that_theirs_cannot_hold_is_refused(cell, message):
    params = jax.tree.map(lambda x: np.zeros(x.shape), jax.eval_shape(cell.init, jax.random.key(0)))
    with pytest.raises(ValueError, match=re.escape(message)):
        cell_to_state_dict("torchrecurrent_mut1", cell, params)


def test_bfloat16_tensors_are_read_as_float32():
    tensors = {key: value.bfloat16() for key, value in amplified("mut1").state_dict().items()}
    _, params = cell_from_state_dict("torchrecurrent_mut1", tensors)
    assert params["w"].dtype == jnp.float32
    np.testing.assert_array_equal(params["w"][0, 0].T, tensors["weight_ih"][:D_STATE].float())


def loud(cell, rng):
    """Random parameters of unit size, without the cell's own initialisation."""
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    return {name: jnp.asarray(rng.normal(size=like.shape), jnp.float32) for name, like in shapes.items()}


def test_a_delay_of_three_reaches_back_three_states():
    rng = np.random.default_rng(0)
    cell = CELLS["tau_gru"](3, D_STATE, delay=3)
    params = loud(cell, rng)
    x = jnp.asarray(rng.normal(size=(1, 1, 3)), jnp.float32)
    h = tuple(jnp.asarray(rng.normal(size=(1, 1, D_STATE)), jnp.float32) for _ in range(4))
    after = cell.step(params, h, cell.inputs(params, x))
    one_step_back = CELLS["tau_gru"](3, D_STATE)
    expected = one_step_back.step(params, (h[0], h[3]), one_step_back.inputs(params, x))[0]
    jax.tree.map(np.testing.assert_array_equal, after, (expected, *h[:3]))
    assert cell.output(params, after, ()) is after[0]


@pytest.mark.parametrize("name", ["t_rnn", "t_gru", "t_lstm"])
def test_strongly_typed_cells_are_affine_in_their_memory(name, close):
    rng = np.random.default_rng(0)
    cell = CELLS[name](3, D_STATE)
    params = loud(cell, rng)
    memory = cell.states.index("c" if "c" in cell.states else "h")
    h = [jnp.asarray(rng.normal(size=(3, D_STATE))[[0, 0, 0]], jnp.float32) for _ in cell.states]
    h[memory] += jnp.arange(3.0)[:, None]
    u = cell.inputs(params, jnp.asarray(rng.normal(size=(1, 1, 3)), jnp.float32))
    for value in jax.tree.leaves(cell.step(params, tuple(h) if len(h) > 1 else h[0], jax.tree.map(lambda x: x[0], u))):
        x = jnp.broadcast_to(value, (3, D_STATE))
        close(x[2] - x[1], x[1] - x[0])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("miru1", {"update": 1.5}, "update must be from 0 to 1, got 1.5"),
        ("miru2", {"reset": -0.5}, "reset must be from 0 to 1, got -0.5"),
        ("tau_gru", {"delay": 0}, "delay must be at least 1, got 0"),
        ("fast_grnn", {"gate": "relu"}, "gate must be one of sigmoid, tanh, got 'relu'"),
        ("intersection_rnn", {"d_input": 3}, "d_input must be d_state = 4, which x is mixed with, got 3"),
    ],
)
def test_wrong_fields_are_named(name, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CELLS[name](**{"d_input": 4, "d_state": 4, **fields})
