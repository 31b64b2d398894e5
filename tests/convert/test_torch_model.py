"""Every mixer, cell and style of block in plain PyTorch is that of JAX, and its folder comes back whole."""

import dataclasses
import inspect
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxseq.cells import CELLS
from jaxseq.checkpoint import read_model, save_model
from jaxseq.convert import load_model, torch_folder
from jaxseq.convert import modeling_jaxseq as code
from jaxseq.convert.command import convert
from jaxseq.convert.torch_folder import read_torch, write_torch
from jaxseq.convert.verify import FLOAT32
from jaxseq.data import ByteTokenizer
from jaxseq.experiment import Experiment, InitConfig
from jaxseq.generate import Sampling, generate
from jaxseq.mixers import MIXERS
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.sharding import is_declared, make_mesh
from jaxseq.train.origin import adopt, first_params
from tests.marks import slow_but
from tests.mixers.cases import OPTIONS, WIDTH

VOCAB, PROMPT, NEW = 40, 8, 64
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


def drawn(model: LanguageModel, by: float = 2.0):
    """Random parameters whose matrices are `by` times as large as usual."""
    rng = np.random.default_rng(0)

    def one(path, leaf):
        name, shape = str(path[-1].key), leaf.value.shape
        x = rng.normal(size=shape).astype(np.float32)
        stacked = path[0].key == "layers" and not model.config.shared_layers
        if "norm" in name or name == "skip":
            return jnp.asarray(1 + 0.3 * x)
        if name == "lambda_re":  # eigenvalues to the right of 0 grow without bound
            return jnp.asarray(-abs(x))
        return jnp.asarray(by * x / shape[-2] ** 0.5 if len(shape) - stacked > 1 else 0.5 * x)

    return jax.tree_util.tree_map_with_path(one, declare(model), is_leaf=is_declared)


def tiny(pattern, options=None, layers=2, **style) -> tuple[LanguageModel, dict]:
    """A model of the pattern, `layers` times, and parameters: in deep models of no more than the usual size, or
    rounding alone would grow too much.
    """
    fields = {"vocab": VOCAB, "width": WIDTH, "mlp_width": 24, "remat": "none"} | style
    model = LanguageModel(ModelConfig(pattern=pattern, layers=layers * len(pattern), options=options or {}, **fields))
    return model, drawn(model, by=2.0 if model.config.layers < 4 else 1.0)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])


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


# ---- folders


BYTES = 264


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir of a byte-level model, its model and its parameters."""
    folder = tmp_path_factory.mktemp("work") / "run"
    folder.mkdir()
    options = {"lru": {"states": 6}, "attention": {"heads": 2, "window": 8}}
    model, params = tiny(tuple(options), options, layers=1, vocab=BYTES)
    save_model(folder, Experiment(model=model.config), params)
    return folder


@pytest.fixture(scope="module")
def folder(workdir, tmp_path_factory):
    """(the folder of PyTorch, what the command said)."""
    target, lines = tmp_path_factory.mktemp("torch") / "out", []
    convert(str(workdir), str(target), "torch", say=lines.append)
    return target, lines


def test_the_command_compares_in_float32_and_bfloat16(folder):
    assert [line.split("  ")[0] for line in folder[1][1:]] == [
        "float32, logits",
        "float32, logits of a padded batch",
        "float32, of 64 greedy tokens differ",
        "bfloat16, logits from float32",
    ]
    assert "TOO LARGE" not in "".join(folder[1])


ALONE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import modeling_jaxseq
model = modeling_jaxseq.load(sys.argv[1])
ids = model.generate(modeling_jaxseq.encode("def "), 32)[0].tolist()
assert not {"jax", "transformers", "safetensors", "numpy.testing"} & set(sys.modules), sorted(sys.modules)
print(ids)
"""


def test_with_torch_alone_it_generates_what_jaxseq_does(workdir, folder):
    _, model, params, _ = read_model(workdir)
    ours: list[int] = []
    options = {"max_tokens": 32, "sampling": Sampling(temperature=0)}
    generate(model, params, ByteTokenizer(), [b"def "], **options, on_token=lambda _, token: ours.append(token))
    command = [sys.executable, "-I", "-c", ALONE, str(folder[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    assert len(ours) > 4
    assert theirs[: len(ours)] == ours


def test_there_and_back_gives_the_same_parameters(workdir, folder, tmp_path):
    lines: list[str] = []
    convert(str(folder[0]), str(tmp_path / "back"), "jaxseq", say=lines.append)
    before, after = load_model(workdir), load_model(tmp_path / "back")
    assert before[0].config == after[0].config
    jax.tree.map(np.testing.assert_array_equal, before[1], after[1])
    assert len(lines) == 5


def test_training_starts_from_such_a_folder(workdir, folder, mesh):
    config = adopt(Experiment(init=InitConfig(from_hf=str(folder[0]))))
    model, params = load_model(workdir)
    assert (config.model.pattern, config.model.options) == (model.config.pattern, model.config.options)
    jax.tree.map(np.testing.assert_array_equal, first_params(config, mesh), params)


def test_bfloat16_is_rounded_once(workdir, tmp_path, mesh):
    convert(str(workdir), str(tmp_path / "half"), "torch", dtype="bfloat16", say=lambda _: None)
    params = read_torch(tmp_path / "half", mesh)[1]
    expected = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), load_model(workdir)[1])
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert code.load(tmp_path / "half").embedding.dtype == torch.bfloat16


def test_shards_are_read_in_both_frameworks(workdir, tmp_path, mesh):
    model, params = load_model(workdir)
    write_torch(tmp_path, model.config, params, shard_bytes=10_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    jax.tree.map(np.testing.assert_array_equal, read_torch(tmp_path, mesh)[1], params)
    np.testing.assert_array_equal(code.load(tmp_path).head.detach().numpy(), params["head"])


def swapped(tensors):
    """Two parameters of one shape in each other's place."""
    turn = {"w_value": "w_gate", "w_gate": "w_value"}
    for name, value in tensors:
        *path, last = name.split(".")
        yield ".".join([*path, turn.get(last, last) if "mixer" in path else last]), value


def turned(tensors):
    """A missing transpose of square matrices."""
    return ((name, value.T if name.endswith("mixer.w_o") else value) for name, value in tensors)


@pytest.mark.parametrize("spoil", [swapped, turned])
def test_what_is_written_wrong_is_found_and_nothing_is_left(spoil, workdir, tmp_path, monkeypatch):
    right = torch_folder.written
    monkeypatch.setattr(torch_folder, "written", lambda *args: spoil(right(*args)))
    with pytest.raises(ValueError, match=r"the result is not right \(float32, logits\) and was removed"):
        convert(str(workdir), str(tmp_path / "out"), "torch", say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_what_is_read_wrong_is_found_and_nothing_is_left(folder, tmp_path, monkeypatch):
    right = torch_folder.names_of
    turn = {"layers.1.mixer.w_k": "layers.1.mixer.w_v", "layers.1.mixer.w_v": "layers.1.mixer.w_k"}
    monkeypatch.setattr(torch_folder, "names_of", lambda *args: [turn.get(name, name) for name in right(*args)])
    with pytest.raises(ValueError, match=r"the result is not right \(float32, logits\) and was removed"):
        convert(str(folder[0]), str(tmp_path / "out"), "jaxseq", say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_tensors_that_do_not_fit_are_named(workdir, tmp_path, mesh, monkeypatch):
    model, params = load_model(workdir)
    right = list(torch_folder.written(model.config, params, np.float32))
    spoiled = {
        r"must have layers\.0\.mixer\.d \(1 tensors": [x for x in right if x[0] != "layers.0.mixer.d"],
        "have more, which the model has not": [*right, ("more", np.zeros(3, np.float32))],
        r"head must be of shape \(16, 264\), got \(264, 16\)": [(n, x.T if n == "head" else x) for n, x in right],
    }
    for i, (message, tensors) in enumerate(spoiled.items()):
        monkeypatch.setattr(torch_folder, "written", lambda *_, t=tensors: t)
        (tmp_path / str(i)).mkdir()
        write_torch(tmp_path / str(i), model.config, params)
        with pytest.raises(ValueError, match=message):
            read_torch(tmp_path / str(i), mesh)


@pytest.mark.parametrize(("table", "name"), [("MIXERS", "para_rnn"), ("CELLS", "para_gru")])
def test_what_the_code_does_not_have_is_refused_by_name(table, name, tmp_path, monkeypatch):
    monkeypatch.delitem(getattr(code, table), name)
    with pytest.raises(ValueError, match=rf"has no (mixer|cell) {name}: it has .*\w+"):
        write_torch(tmp_path, ModelConfig(), {})


# ---- generation


def test_a_padded_batch_generates_what_each_prompt_does_alone(folder):
    model = code.load(folder[0])
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 9)))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :4] = mask[1, 6:] = False
    both = model.generate(tokens, 12, mask=mask)
    alone = [model.generate(row[valid][None], 12)[0] for row, valid in zip(tokens, mask, strict=True)]
    torch.testing.assert_close(both, torch.stack(alone), rtol=0, atol=0)


def test_a_temperature_draws_from_the_softmax(folder):
    model = code.load(folder[0])
    prompt = code.encode("a").expand(4000, -1)
    found = model.generate(prompt, 1, temperature=2.0, generator=torch.Generator().manual_seed(0))[:, 0]
    expected = torch.softmax(model(prompt[:1])[0][0, -1, :257] / 2.0, -1)
    assert found.max() < 257
    torch.testing.assert_close(torch.bincount(found, minlength=257) / 4000, expected, rtol=0, atol=0.03)


def test_generation_ends_when_every_row_has_stopped(folder):
    model = code.load(folder[0])
    prompt = code.encode("ab")
    free = model.generate(prompt, 10)[0].tolist()
    stopped = model.generate(prompt, 10, stop=free[3])[0].tolist()
    assert stopped == free[: free.index(free[3]) + 1]


def test_more_tokens_than_attention_sees_are_refused(tmp_path):
    model, params = tiny(("attention",), {"attention": {"context": 8}}, layers=1)
    write_torch(tmp_path, model.config, params)
    with pytest.raises(ValueError, match="at most 8 tokens, got 9"):
        code.load(tmp_path).generate(torch.zeros(1, 4, dtype=torch.long), 6)


# ---- transformers


@pytest.fixture
def auto(folder, tmp_path, monkeypatch):
    """The folder's model as AutoModelForCausalLM loads it."""
    from transformers import AutoModelForCausalLM, dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return AutoModelForCausalLM.from_pretrained(folder[0], trust_remote_code=True).eval()


def test_transformers_loads_the_folder_and_generates_the_same(auto, folder):
    tokens = code.encode("def main")
    plain = code.load(folder[0])
    with torch.no_grad():
        torch.testing.assert_close(auto(tokens).logits, plain(tokens)[0], rtol=0, atol=0)
        options = {"max_new_tokens": 20, "do_sample": False, "suppress_tokens": list(range(257, BYTES))}
        found = auto.generate(tokens, attention_mask=torch.ones_like(tokens), **options)[0, tokens.shape[1] :]
    expected = plain.generate(tokens, 20, stop=code.BOS)[0]
    assert found.tolist() == expected.tolist()


def test_transformers_carries_the_state_and_gives_a_loss(auto):
    tokens = code.encode("def main")
    with torch.no_grad():
        whole = auto(tokens, labels=tokens)
        first = auto(tokens[:, :4])
        rest = auto(tokens[:, 4:], state=first.state)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), whole.logits, rtol=1e-4, atol=1e-5)
    expected = torch.nn.functional.cross_entropy(whole.logits[0, :-1], tokens[0, 1:])
    torch.testing.assert_close(whole.loss, expected)
