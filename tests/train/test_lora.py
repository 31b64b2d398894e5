"""Adapters on a frozen base, and an average of what is trained: what moves, what stays, what is evaluated."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.benchmark.setup import random_batch
from jaxseq.checkpoint import fingerprint, read_config, read_model
from jaxseq.convert import load_model
from jaxseq.convert.command import convert
from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import LanguageModel, ModelConfig, declare, make_params
from jaxseq.model.lora import LoRA, declare_adapters
from jaxseq.model.loss import cross_entropy
from jaxseq.model.weights import Weights
from jaxseq.sharding import make_mesh
from jaxseq.train.optimizer import make_optimizer
from jaxseq.train.origin import first_params
from jaxseq.train.session import open_session
from jaxseq.train.state import make_state, state_shardings
from jaxseq.train.step import make_step, place
from tests.e2e.conftest import train

MODEL = ModelConfig(width=16, layers=3, pattern=("para_rnn", "mamba", "attention"), mlp_width=24, remat="none")
CONFIG = Experiment(
    model=MODEL,
    data=DataConfig(batch=4, length=12),
    optim=OptimConfig(learning_rate=1e-2, warmup=0),
    train=TrainConfig(lora=LoRA(rank=2), ema=0.9),
)
STEPS = 5


def copied(tree):
    return jax.tree.map(np.array, tree)


def run(config, steps):
    """The states before and after each step, as numpy, and the losses."""
    mesh = make_mesh(devices=jax.devices()[:1])
    model = LanguageModel(config.model)
    optimizer = make_optimizer(config, declare(model))
    with jax.set_mesh(mesh):
        state = make_state(first_params(config, mesh), model, optimizer, mesh, config.train.weights)
        step, batch = make_step(model, optimizer, config, mesh), place(random_batch(4, 12), mesh)
        states, losses = [copied(state)], []
        for _ in range(steps):
            state, metrics = step(state, batch)
            states.append(copied(state))
            losses.append(float(metrics["loss"]))
    return states, losses


@pytest.fixture(scope="module")
def adapted():
    return run(CONFIG, STEPS)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_the_base_stays_bit_for_bit_while_adapters_learn(adapted):
    states, losses = adapted
    jax.tree.map(np.testing.assert_array_equal, states[-1].params["base"], states[0].params["base"])
    assert losses[-1] < losses[0] - 0.02
    moved = {name for name, a in states[-1].params["train"].items() if np.any(a["b"])}
    assert moved == set(states[0].params["train"])


def test_training_starts_with_the_base_itself(adapted, close):
    kept = adapted[0][0].params
    first = CONFIG.train.weights.evaluated(kept)
    jax.tree.map(np.testing.assert_array_equal, first, kept["base"])
    batch = random_batch(4, 12)
    apply = jax.jit(LanguageModel(MODEL).apply)
    logits, _ = apply({"params": kept["base"]}, batch["tokens"][:, :-1], reset=batch["reset"])
    loss = cross_entropy(logits, batch["tokens"][:, 1:], batch["weight"])
    close(adapted[1][0], loss.nats / loss.weight)


def test_every_matrix_of_mixers_and_mlps_has_an_adapter_and_nothing_else(adapted):
    base, adapters = adapted[0][0].params["base"]["layers"], adapted[0][0].params["train"]
    matrices = {
        "para_rnn": {"w_x", "w_z", "w_o", "cell.w"},
        "mamba": {"w_x", "w_z", "w_select", "w_dt", "w_o"},
        "attention": {"w_q", "w_k", "w_v", "w_o"},
    }
    expected = {
        f"layers.block_{i}.{part}"
        for i, kind in enumerate(MODEL.pattern)
        for part in {f"mixer.{n}" for n in matrices[kind]} | {"mlp.w_gate", "mlp.w_up", "mlp.w_down"}
    }
    assert set(adapters) == expected
    gates = adapters["layers.block_0.mixer.cell.w"]
    assert base["block_0"]["mixer"]["cell"]["w"].shape == (1, 3, 1, 16, 16)
    assert (gates["a"].shape, gates["b"].shape) == ((1, 3, 1, 16, 2), (1, 3, 1, 2, 16))


def test_the_optimizer_holds_two_moments_of_the_adapters_and_nothing_of_the_base(adapted):
    state = adapted[0][-1]
    assert size(state.opt_state) - 2 * size(state.params["train"]) <= 4  # step counts
    assert size(state.params["train"]) < size(state.params["base"]) / 2


def test_the_average_follows_what_is_trained(adapted, close):
    states = [state.params for state in adapted[0]]
    average = states[0]["train"]
    for step, state in enumerate(states[1:]):
        d = np.float64(min(0.9, (1 + step) / (10 + step)))
        average = jax.tree.map(lambda old, new, d=d: d * old + (1 - d) * new, average, state["train"])
        close(state["ema"], average)
    assert fingerprint(states[-1]["ema"]) != fingerprint(states[-1]["train"])


def test_evaluation_merges_the_average_into_the_base(adapted, close):
    kept = adapted[0][-1].params
    found = CONFIG.train.weights.evaluated(kept)
    name = "layers.block_0.mlp.w_up"
    w, adapter = kept["base"]["layers"]["block_0"]["mlp"]["w_up"], kept["ema"][name]
    expected = w.astype(np.float64) + 16 / 2 * (adapter["a"].astype(np.float64) @ adapter["b"])
    close(found["layers"]["block_0"]["mlp"]["w_up"], expected)
    np.testing.assert_array_equal(found["embedding"], kept["base"]["embedding"])
    assert np.any(np.asarray(found["layers"]["block_0"]["mlp"]["w_up"]) != w)


def test_without_adapters_the_average_is_of_all_parameters():
    params = {"w": jnp.ones(2)}
    weights = Weights(ema=0.5)
    kept = weights.first(params, None, 0, make_mesh(devices=jax.devices()[:1]))
    kept = weights.moved(kept, {"w": jnp.full(2, 3.0)}, jnp.int32(100))
    np.testing.assert_array_equal(weights.evaluated(kept)["w"], [2.0, 2.0])
    np.testing.assert_array_equal(weights.trained(kept)["w"], [3.0, 3.0])


def test_adapters_lie_like_their_matrices_with_the_rank_whole():
    mesh, model, weights = make_mesh((2, 2, 2, 1)), LanguageModel(MODEL), CONFIG.train.weights
    layout = state_shardings(model, make_optimizer(CONFIG, declare(model)), mesh, weights)
    P = jax.sharding.PartitionSpec
    up, wanted = "layers.block_1.mlp.w_up", {"a": P(None, "fsdp", None), "b": P(None, None, "tensor")}
    assert layout.params["base"]["layers"]["block_1"]["mlp"]["w_up"].spec == P(None, "fsdp", "tensor")
    for adapters in (layout.params["train"], layout.params["ema"], layout.opt_state[1][0].mu):
        assert {name: part.spec for name, part in adapters[up].items()} == wanted


def test_targets_choose_parameters_by_name():
    declared = declare(LanguageModel(MODEL))
    found = declare_adapters(declared, LoRA(rank=2, targets=(r"block_2\.mixer\.w_[qv]$", "^head$")))
    assert set(found) == {"layers.block_2.mixer.w_q", "layers.block_2.mixer.w_v", "head"}
    assert found["head"]["a"].axes == ("embed", None)


@pytest.mark.parametrize("target", ["w_nothing", r"cell\.a$", "mixer_norm"])
def test_a_target_that_finds_no_matrix_is_refused(target):
    with pytest.raises(ValueError, match=r"train\.lora\.targets: .* must find a matrix"):
        declare_adapters(declare(LanguageModel(MODEL)), LoRA(rank=2, targets=(target,)))


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": -1}, "rank must be at least 0, got -1"),
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0.0"),
        ({"targets": ("(",)}, r"'\(' must be a regular expression"),
    ],
)
def test_what_is_no_adapter_is_refused(lora, message):
    with pytest.raises(ValueError, match=message):
        LoRA(**lora)


def test_an_average_that_never_moves_is_refused():
    with pytest.raises(ValueError, match=r"train\.ema must be in \[0, 1\), got 1"):
        TrainConfig(ema=1.0)


def experiment(steps, model):
    return replace(
        CONFIG,
        model=model,
        data=DataConfig(source="parity:20", length=16, batch=8),
        train=replace(CONFIG.train, steps=steps, log_every=1, sample_tokens=0, save_every=0),
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A workdir of a Mamba with adapters and an average, trained for 3 steps."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    model = ModelConfig(width=16, layers=1, pattern=("mamba",), mlp_width=0, residual_scale=False, remat="none")
    train(experiment(3, model), str(folder))
    return folder


@pytest.mark.slow
def test_a_checkpoint_reads_as_the_merged_model_that_the_run_evaluated(tuned, tmp_path):
    config, model, params, _ = read_model(tuned)
    base = make_params(model, config.train.seed, make_mesh(devices=jax.devices()[:1]))
    assert jax.tree.structure(params) == jax.tree.structure(base)
    np.testing.assert_array_equal(params["embedding"], base["embedding"])
    w = params["layers"]["block_0"]["mixer"]["w_x"]
    assert np.any(np.asarray(w) != np.asarray(base["layers"]["block_0"]["mixer"]["w_x"]))


def test_the_merged_model_is_what_is_exported(tuned, tmp_path, close):
    convert(str(tuned), str(tmp_path / "hf"), "hf", verify=False, say=lambda _: None)
    convert(str(tuned), str(tmp_path / "ours"), "jaxseq", verify=False, say=lambda _: None)
    assert read_config(tmp_path / "ours").train.lora.rank == 0
    params = read_model(tuned)[2]
    for folder in ("hf", "ours"):
        jax.tree.map(np.testing.assert_array_equal, load_model(tmp_path / folder)[1], params)


def test_a_run_with_adapters_goes_on_from_its_checkpoint(tuned):
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        session = open_session(read_config(tuned), str(tuned), mesh)
        session.checkpoints.close()
    assert session.start == 3
    assert set(session.state.params) == {"base", "train", "ema"}
    jax.tree.map(np.testing.assert_array_equal, session.params, read_model(tuned)[2])
    assert any(np.any(a["b"]) for a in session.state.params["train"].values())
