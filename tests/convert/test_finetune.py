"""From a folder of transformers, through training here, back to a folder of transformers."""

import json

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from jaxseq.checkpoint import read_config, read_model
from jaxseq.convert import load_model
from jaxseq.convert.command import convert
from jaxseq.data import ByteTokenizer
from jaxseq.experiment import DataConfig, Experiment, InitConfig, OptimConfig, TrainConfig
from jaxseq.generate import Sampling, generate
from jaxseq.model import ModelConfig
from tests.e2e.conftest import train

SOURCE = DataConfig(source="parity:30", length=32, batch=8)

pytestmark = pytest.mark.slow


def experiment(folder, steps):
    return Experiment(
        model=ModelConfig(remat="none"),
        init=InitConfig(from_hf=str(folder)),
        data=SOURCE,
        optim=OptimConfig(learning_rate=1e-2, warmup=2),
        train=TrainConfig(steps=steps, log_every=1, sample_tokens=0, eval_batches=1, save_every=0),
    )


def losses(workdir):
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=264, hidden_size=16, state_size=4, num_hidden_layers=2, tie_word_embeddings=False)
    MambaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(pretrained, tmp_path_factory):
    """(workdir, the folder that it was converted to)."""
    root = tmp_path_factory.mktemp("tuned")
    train(experiment(pretrained, 12), str(root / "run"))
    convert(str(root / "run"), str(root / "back"), "hf", verify=False, say=lambda _: None)
    return root / "run", root / "back"


def test_training_starts_from_the_folder_s_model(pretrained, tuned):
    config, model, _, _ = read_model(tuned[0])
    assert (model.config.pattern, model.config.width, model.config.remat) == (("mamba",), 16, "none")
    tokens = np.random.default_rng(0).integers(0, 264, (2, 9))
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(pretrained)(torch.from_numpy(tokens)).logits.numpy()
    model, params = load_model(pretrained)
    found = jax.jit(model.apply)({"params": params}, tokens)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert config.init.from_hf == str(pretrained)
    assert losses(tuned[0])[-1] < losses(tuned[0])[0] - 1


def test_what_was_trained_generates_the_same_in_torch(tuned):
    _, model, params, _ = read_model(tuned[0])
    module = AutoModelForCausalLM.from_pretrained(tuned[1]).eval()
    prompt = torch.tensor([[256, *b"0110"]])
    with torch.no_grad():
        options = {"max_new_tokens": 9, "do_sample": False, "suppress_tokens": list(range(257, 264))}  # of no byte
        theirs = module.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    ours: list[int] = []
    greedy = Sampling(temperature=0)
    tokenizer = ByteTokenizer()

    def take(_, token):
        ours.append(int(token))

    generate(model, params, tokenizer, [b"0110"], max_tokens=9, sampling=greedy, on_token=take)
    assert ours == theirs[0, 5 : 5 + len(ours)].tolist()
    assert len(ours) == 9


def test_going_on_from_what_came_back_gives_the_losses_of_not_having_left(tuned, tmp_path):
    _, back = tuned
    train(experiment(back, 5), str(tmp_path / "away"))
    convert(str(back), str(tmp_path / "here"), "jaxseq", verify=False, say=lambda _: None)
    convert(str(tmp_path / "here"), str(tmp_path / "again"), "hf", verify=False, say=lambda _: None)
    train(experiment(tmp_path / "again", 5), str(tmp_path / "home"))
    np.testing.assert_allclose(losses(tmp_path / "away"), losses(tmp_path / "home"), rtol=1e-5)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: there is no config\.json"):
        train(experiment(tmp_path / "nowhere", 1), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_training_in_the_folder_of_a_converted_model_is_refused_and_leaves_it_whole(pretrained, tmp_path):
    convert(str(pretrained), str(tmp_path / "here"), "jaxseq", verify=False, say=lambda _: None)
    config = read_config(tmp_path / "here")
    before = load_model(tmp_path / "here")[1]
    with pytest.raises(ValueError, match=r"holds a model that was not trained there .* init\.from_hf"):
        train(config, str(tmp_path / "here"))
    jax.tree.map(np.testing.assert_array_equal, load_model(tmp_path / "here")[1], before)
