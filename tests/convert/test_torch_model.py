"""Every mixer, cell and style of block in plain PyTorch is that of JAX."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxseq.cells import CELLS
from jaxseq.convert import modeling_jaxseq as code
from jaxseq.convert.torch_folder import read_torch, write_torch
from jaxseq.convert.verify import FLOAT32
from jaxseq.mixers import MIXERS
from tests.convert.drawn import VOCAB, tiny
from tests.marks import slow_but
from tests.mixers.cases import OPTIONS, WIDTH

PROMPT, NEW = 8, 64
TRAINING = {  # fields of mixers that matter at initialisation, to training or to how fast JAX is
    "chunk", "clip", "dt_max", "dt_min", "forget_bias", "init_a", "max_iterations", "max_phase", "max_radius",
    "min_radius", "on_failure", "out_gain", "out_variance", "solver", "tolerance",
}  # fmt: skip
CASES = {f"{kind}-{i}": ((kind,), {kind: o}) for kind in MIXERS for i, o in enumerate(OPTIONS.get(kind, [{}]))}
for i in (1, 2, 4):
    CASES[f"attention-{i}"][1]["attention"] = OPTIONS["attention"][i] | {"context": PROMPT + NEW}
for power in (0.0, 15.0):
    softplus = {"heads": 2, "kv_heads": 1, "context": PROMPT + NEW, "weights": "softplus", "power": power}
    CASES[f"attention-power-{power:.0f}"] = (("attention",), {"attention": softplus})
CASES["para_rnn-dense"] = (
    ("para_rnn",),
    {"para_rnn": {"cell": "lem", "recurrent": "dense", "heads": 2, "inner": 24, "solver": "sequential"}},
)
FACES = {  # those that tests/mixers does not show, several in one model
    "attention": {"heads": 4, "kv_heads": 1, "head_dim": 6, "qk_norm": True, "rope_fraction": 0.0, "context": 72},
    "channel_mix": {"version": 6},
    "gla": {"heads": 2, "conv_width": 3},
    "kda": {"heads": 2, "rank": 0, "lower_bound": -5.0},
    "mamba": {"states": 3, "select_norm": "unit"},
    "min_lstm": {"form": "plain", "conv_width": 0},
    "s5": {"states": 6, "activation": "half_glu1"},
    "mlstm": {"heads": 2, "gate_cap": None},
}
CASES["other faces"] = (tuple(FACES), FACES)
ALWAYS = {"lru-0", "mamba2-0", "attention-1", "para_rnn-0"}  # the others are slow


def both(model, params, folder):
    """The model in PyTorch, tokens with their mask, and the logits of JAX and of PyTorch.

    Row 0 is a prompt and what PyTorch makes of it greedily, rows 1 and 2 are padded left, within and right.
    """
    write_torch(folder, model.config, params)
    ours = code.load(folder)
    tokens = np.random.default_rng(1).integers(0, VOCAB, (3, PROMPT + NEW))
    tokens[0, PROMPT:] = ours.generate(torch.from_numpy(tokens[:1, :PROMPT]), NEW)[0].numpy()
    mask = np.ones(tokens.shape, bool)
    mask[1, :5] = mask[1, 9] = mask[2, 30:] = False
    with torch.no_grad():
        found = ours(torch.from_numpy(tokens), mask=torch.from_numpy(mask))[0].numpy()
    expected = jax.jit(model.apply)({"params": params}, jnp.asarray(tokens), mask=jnp.asarray(mask))[0]
    return ours, tokens, mask, np.asarray(expected), found


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in CASES],
)
def crossed(request, tmp_path_factory):
    pattern, options = CASES[request.param]
    model, params = tiny(pattern, options, layers=2 if len(pattern) == 1 else 1)
    return both(model, params, tmp_path_factory.mktemp("crossed"))


def assert_near(found, expected):
    assert np.std(expected) > 1e-2
    assert np.max(np.abs(found - expected)) <= FLOAT32 * np.max(np.abs(expected))


def test_logits_of_a_padded_batch_are_those_of_jax(crossed):
    _, _, mask, expected, found = crossed
    assert_near(found[mask], expected[mask])


def test_greedy_tokens_are_those_of_jax(crossed):
    _, tokens, _, expected, _ = crossed
    np.testing.assert_array_equal(tokens[0, PROMPT:], expected[0, PROMPT - 1 : -1].argmax(-1))


def test_step_by_step_is_one_call(crossed):
    ours, tokens, mask, _, found = crossed
    state, steps = None, []
    with torch.no_grad():
        for t in range(40):
            one = slice(t, t + 1)
            y, state = ours(torch.from_numpy(tokens[:, one]), state, torch.from_numpy(mask[:, one]))
            steps.append(y[:, 0].numpy())
    assert_near(np.stack(steps, 1)[mask[:, :40]], found[:, :40][mask[:, :40]])


STYLES = {
    "parallel, layer norm, geglu with biases": {
        "residual": "parallel", "residual_scale": False, "norm": "layer", "mlp": "geglu", "mlp_bias": True,
        "tied": True, "embedding_scale": 2.0, "logit_cap": 3.0,
    },
    "shared layers, relu2, a normed embedding": {
        "shared_layers": True, "mlp": "relu2", "embedding_norm": True, "norm_eps": 1e-3,
    },
    "no mlp": {"mlp_width": 0},
    "norms after some mixers": {"post_norm": ("hgrn2",)},
    "a stream of what norms give": {"residual": "deepnorm", "residual_factor": 1.5, "residual_scale": False},
}  # fmt: skip
MIXED = ("rwkv7", "hgrn2", "retnet", "hgrn2")  # what depends on a layer's place, and a kind that comes twice


@pytest.mark.parametrize("style", slow_but("shared layers, relu2, a normed embedding", STYLES))
def test_styles_of_blocks_are_those_of_jax(style, tmp_path, mesh):
    shared = STYLES[style].get("shared_layers")
    pattern = MIXED[1:] if shared else MIXED  # the first weights of rwkv7 are another layer's in each place
    model, params = tiny(pattern, {kind: OPTIONS[kind][-1] for kind in pattern}, **STYLES[style])
    _, _, mask, expected, found = both(model, params, tmp_path)
    assert_near(found[mask], expected[mask])
    again, back = read_torch(tmp_path, mesh)
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_every_mixer_and_every_cell_is_there():
    assert (set(code.MIXERS), set(code.CELLS)) == (set(MIXERS), set(CELLS))


@pytest.mark.parametrize("kind", MIXERS)
def test_fields_of_a_mixer_have_the_same_defaults(kind):
    theirs = {name: p.default for name, p in inspect.signature(code.MIXERS[kind]).parameters.items()}
    ours = {f.name: f.default for f in dataclasses.fields(MIXERS[kind]) if f.name not in ("width", "parent", "name")}
    known = {name: default for name, default in ours.items() if name in theirs}
    assert known == {name: default for name, default in theirs.items() if name in ours}
    left_out = set(ours) - set(known) - TRAINING
    assert left_out == {"para_rnn": {"window"}, "s5": {"blocks"}}.get(kind, set())


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_those_of_jax(name):
    has_forms = "recurrent" in {f.name for f in dataclasses.fields(CELLS[name])}
    for recurrent in ("diagonal", "dense") if has_forms else ("diagonal",):
        cell = CELLS[name](WIDTH, WIDTH, heads=2, **({"recurrent": recurrent} if has_forms else {}))
        params = jax.eval_shape(cell.init, jax.random.key(0))
        rng = np.random.default_rng(2)
        params = {n: (0.7 * rng.normal(size=x.shape)).astype(np.float32) for n, x in params.items()}
        x = rng.normal(size=(2, 5, WIDTH)).astype(np.float32)
        u, h, states = cell.inputs(params, x), cell.init_state(2), []
        for t in range(5):
            h = cell.step(params, h, jax.tree.map(lambda u, t=t: u[:, t], u))
            states.append(h)
        h = jax.tree.map(lambda *h: jnp.stack(h, 1), *states)
        ours = code.CELLS[name](WIDTH, 2, recurrent)
        ours.load_state_dict({n: torch.from_numpy(np.asarray(v)) for n, v in params.items()})
        assert_near(run(ours, torch.from_numpy(x)), np.asarray(cell.output(params, h, u)))


@torch.no_grad()
def run(cell, x):
    """A cell's outputs, from zero."""
    u = cell.inputs(x)
    h = tuple(x.new_zeros(x.shape[0], WIDTH) for _ in cell.states)

    def step(h, *u):
        h = cell.step(h, u)
        return h, torch.stack(h, dim=1)

    states, _ = code.recurrence(step, h, u, None)
    return cell.output(states.unbind(dim=2), u).numpy()
