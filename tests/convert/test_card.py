"""What a converted folder has beside the weights: tokenizer, how text is generated, and a model card."""

import json
import logging

import jax
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from jaxseq.checkpoint import save_model
from jaxseq.convert import load_model
from jaxseq.convert.card import write_card
from jaxseq.convert.command import convert
from jaxseq.convert.text import carry_text, write_text_files
from jaxseq.convert.verify import Deviation
from jaxseq.data import ByteTokenizer
from jaxseq.data.bpe import BPETokenizer
from jaxseq.experiment import Experiment
from jaxseq.generate import Sampling, generate
from jaxseq.model import LanguageModel, ModelConfig, make_params
from jaxseq.sharding import make_mesh

CONFIG = ModelConfig(width=16, layers=1, pattern=("mamba",), mlp_width=0, residual_scale=False, remat="none")
BYTES = ByteTokenizer()
MANIFEST = {"source": "stdlib", "files": [{"path": "secret.py"}], "splits": {"train": {"sha256": "abc123"}}}
RESULT = {"step": 7, "validation_bits_per_byte": 2.34567, "xz_bits_per_byte": 2.0, "sample": "text"}


@pytest.fixture(scope="module")
def byte_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    write_text_files(folder, BYTES, 264)
    return folder


@pytest.fixture(scope="module")
def theirs(byte_folder):
    return AutoTokenizer.from_pretrained(byte_folder)


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=30))
@pytest.mark.slow
def test_transformers_reads_text_as_the_same_bytes_and_back(theirs, text):
    ids = theirs(text)["input_ids"]
    assert ids == BYTES.encode(text.encode()).tolist()
    assert theirs.decode(ids, skip_special_tokens=True) == text


def test_text_that_reads_like_the_first_token_stays_text(theirs):
    assert theirs("a<bos>")["input_ids"] == [256, *b"a<bos>"]


def test_generation_ends_where_the_model_ends_a_document(byte_folder):
    config = GenerationConfig.from_pretrained(byte_folder)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (256, 256, 256)
    assert config.suppress_tokens == list(range(257, 264))


def test_a_tokenizer_from_a_file_keeps_its_ids(tmp_path):
    library = Library(models.BPE(vocab={}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=270, initial_alphabet=alphabet, special_tokens=["<bos>"], show_progress=False)
    library.train_from_iterator(["the theme of the other thesis"] * 3, trainer)
    ours = BPETokenizer(library.to_str())
    write_text_files(tmp_path, ours, ours.vocab)
    text = "then the 😀 other"
    ids = AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    assert ids == ours.encode(text.encode()).tolist()
    assert len(ids) < len(text.encode())
    assert "suppress_tokens" not in json.loads((tmp_path / "generation_config.json").read_text())


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.vocab must hold the tokenizer's 257 ids, got 62"):
        write_text_files(tmp_path, BYTES, 62)


def test_the_files_of_a_folder_of_transformers_are_carried_on(byte_folder, tmp_path):
    carry_text(byte_folder, tmp_path, 264)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in byte_folder.iterdir()}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir that looks trained."""
    folder = tmp_path_factory.mktemp("run")
    params = make_params(LanguageModel(CONFIG), 0, make_mesh(devices=jax.devices()[:1]))
    save_model(folder, Experiment(model=CONFIG), jax.tree.map(lambda x: 2 * x if x.ndim > 2 else x, params))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "result.json").write_text(json.dumps(RESULT))
    return folder


@pytest.fixture(scope="module")
def converted(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "hf"
    convert(str(workdir), str(folder), "hf", verify=False, license="apache-2.0", say=lambda _: None)
    return folder


def test_text_goes_in_and_comes_out_in_transformers_as_here(workdir, converted):
    model, params = load_model(workdir)
    (ours,) = generate(model, params, BYTES, [b"0110"], max_tokens=9, sampling=Sampling(temperature=0))
    tokenizer, module = AutoTokenizer.from_pretrained(converted), AutoModelForCausalLM.from_pretrained(converted)
    told = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("transformers.generation")
    logger.addHandler(handler)
    with torch.no_grad():
        found = module.eval().generate(**tokenizer("0110", return_tensors="pt"), max_new_tokens=9, do_sample=False)
    logger.removeHandler(handler)
    assert not told
    assert BYTES.decode(found[0, 5:].numpy()) == ours
    assert tokenizer.decode(found[0, :5], skip_special_tokens=True) == "0110"


def test_the_card_says_what_the_run_was(converted):
    card = ModelCard.load(converted / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "text-generation"
    for told in ("MambaForCausalLM", "abc123", "2.346", '"learning_rate"', "| trained for this many steps | 7 |"):
        assert told in card.text
    assert "secret.py" not in card.text
    assert "Not compared." in card.text


def test_the_card_says_how_exact_the_conversion_is(workdir, converted, tmp_path):
    (tmp_path / "config.json").write_text((converted / "config.json").read_text())
    found = [Deviation("float32, logits", 3e-7, 1e-4)]
    write_card(tmp_path, workdir, CONFIG, {"w": np.zeros(1234)}, found)
    text = (tmp_path / "README.md").read_text()
    assert str(found[0]) in text
    assert "| parameters | 1,234 |" in text
    assert "license: unknown" in text


def test_a_model_of_another_origin_has_no_data_in_its_card(converted, tmp_path):
    (tmp_path / "config.json").write_text((converted / "config.json").read_text())
    write_card(tmp_path, converted, CONFIG, {})
    text = (tmp_path / "README.md").read_text()
    assert "Converted from the folder `hf`." in text
    assert "## Data" not in text
