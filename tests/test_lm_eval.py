"""Log-likelihoods of texts, and what lm-evaluation-harness gets of a run: the harness itself where it is installed, or
a stand-in with its two names."""

import importlib
import importlib.util
import json
import sys
import types
from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

from jaxseq.checkpoint import save_model
from jaxseq.data import ByteTokenizer
from jaxseq.experiment import Experiment
from jaxseq.generate import Sampling, generate
from jaxseq.likelihood import likelihoods, split
from jaxseq.model import LanguageModel, ModelConfig, make_params
from jaxseq.sharding import make_mesh

CONFIG = ModelConfig(width=16, layers=1, pattern=("min_gru",), mlp_width=0, remat="none")
TOKENIZER = ByteTokenizer()
INSTALLED = importlib.util.find_spec("lm_eval") is not None
PAIRS = [("ab", "cde"), ("", "a text of twenty bytes"), ("the context is long, é 😀, ", "x"), ("q", ""), ("bb", "bb")]


@pytest.fixture(scope="module")
def model():
    """(model, parameters twice as large as usual)."""
    model = LanguageModel(CONFIG)
    params = make_params(model, 0, make_mesh(devices=jax.devices()[:1]))
    return model, jax.tree.map(lambda x: 2 * x if x.ndim > 1 else x, params)


def log_probabilities(model, context, continuation):
    """Of each byte of the continuation, and whether it is the most probable one, from one pass over one text."""
    module, params = model
    ids = np.array([256, *(context + continuation).encode()])
    padded = np.pad(ids, (0, 64 - len(ids)))
    logits = np.asarray(module.apply({"params": params}, padded[None])[0][0], np.float64)[: len(ids) - 1]
    logp = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    n = len(continuation.encode())
    chosen = logp[np.arange(len(ids) - 1), ids[1:]][len(ids) - 1 - n :]
    best = np.argmax(logits[:, :257], axis=-1)[len(ids) - 1 - n :]
    return chosen, best == ids[len(ids) - n :]


@pytest.mark.parametrize(("batch", "chunk"), [(2, 2048), (4, 7)])
def test_a_padded_batch_in_chunks_gives_the_sums_of_single_texts(model, batch, chunk, close):
    texts = [split(TOKENIZER, *pair) for pair in PAIRS]
    found = likelihoods(*model, texts, vocab=257, batch=batch, chunk=chunk)
    expected = [log_probabilities(model, *pair) for pair in PAIRS]
    close(np.array([f.log_probability for f in found]), np.array([e[0].sum() for e in expected]))
    assert [f.greedy for f in found] == [bool(np.all(e[1])) for e in expected]


def test_what_the_model_would_write_is_greedy_and_nothing_else_is(model):
    ids = []
    generate(
        *model, TOKENIZER, [b"ab"], max_tokens=6, sampling=Sampling(temperature=0), on_token=lambda _, i: ids.append(i)
    )
    assert ids
    other = [*ids[:-1], (ids[-1] + 1) % 256]
    texts = [split(TOKENIZER, "ab", "")._replace(ids=np.array([256, *b"ab", *end], np.int32)) for end in (ids, other)]
    found = likelihoods(*model, texts, vocab=257)
    assert [f.greedy for f in found] == [True, False]


def test_a_token_over_the_border_is_judged():
    @dataclass
    class Pairs:
        """Two bytes to a token."""

        token_bytes = np.array([0.0, 2.0], np.float32)

        def encode(self, document):
            return np.array([0] + [1] * (len(document) // 2), np.int32)

    assert split(Pairs(), "abc", "def").start == 2
    assert split(Pairs(), "ab", "cdef").start == 2
    assert split(Pairs(), "", "cdef").start == 1


def test_a_text_longer_than_attention_can_see_is_refused(model):
    config = replace(CONFIG, pattern=("attention",), options={"attention": {"heads": 2, "context": 8}})
    with pytest.raises(ValueError, match="context = 8 must be at least the longest text's 9 tokens"):
        likelihoods(LanguageModel(config), {}, [split(TOKENIZER, "", "nine byte")], vocab=257)


@pytest.mark.parametrize("name", ["batch", "chunk"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        likelihoods(LanguageModel(CONFIG), {}, [], vocab=257, **{name: 0})


# ---- the adapter


@dataclass
class Request:
    """What the harness asks, as it asks it."""

    args: tuple


def stand_in(monkeypatch):
    """`lm_eval` with the two names that the adapter takes of it."""

    class Hook:
        def add_partial(self, *_):
            pass

    class LM:
        def __init__(self):
            self.cache_hook = Hook()

    modules = {
        name: types.ModuleType(name) for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model", "lm_eval.api.registry")
    }
    modules["lm_eval.api.model"].LM = LM
    modules["lm_eval.api.registry"].register_model = lambda *_: lambda cls: cls
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(scope="module")
def adapter(workdir):
    with pytest.MonkeyPatch.context() as patch:
        if not INSTALLED:
            stand_in(patch)
        yield importlib.import_module("jaxseq.lm_eval").JaxseqLM(str(workdir), batch_size="4")
    if not INSTALLED:
        del sys.modules["jaxseq.lm_eval"]


@pytest.fixture(scope="module")
def workdir(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_model(folder, Experiment(model=CONFIG), model[1])
    return folder


def test_the_harness_gets_log_likelihoods_of_a_run(adapter, model, close):
    found = adapter.loglikelihood([Request(pair) for pair in PAIRS])
    expected = [log_probabilities(model, *pair) for pair in PAIRS]
    close(np.array([f[0] for f in found]), np.array([e[0].sum() for e in expected]))
    assert [f[1] for f in found] == [bool(np.all(e[1])) for e in expected]


def test_the_harness_gets_log_likelihoods_of_whole_documents(adapter, model, close):
    (found,) = adapter.loglikelihood_rolling([Request(("a document",))])
    close(np.array(found), log_probabilities(model, "", "a document")[0].sum())


def test_answers_end_before_the_first_stop(adapter, model):
    whole = generate(*model, TOKENIZER, [b"ab", b"xyz"], max_tokens=12, sampling=Sampling(temperature=0))
    whole = [text.decode(errors="replace") for text in whole]
    stop = whole[0][3]
    asked = [("ab", [stop]), ("xyz", [stop]), ("xyz", ["never written"])]
    requests = [Request((prompt, {"until": until, "max_gen_toks": 12})) for prompt, until in asked]
    expected = [text.split(stop)[0] for text in whole]
    assert adapter.generate_until(requests) == [*expected, whole[1]]


@pytest.mark.skipif(not INSTALLED, reason="the extra `eval` is not installed")
def test_the_harness_runs_a_task_on_a_run(workdir, adapter, tmp_path):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"text": f"text number {i}"}) + "\n" for i in range(3)))
    (tmp_path / "local.yaml").write_text(
        f"task: local\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path}/data.jsonl\n"
        "test_split: test\noutput_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list:\n  - metric: bits_per_byte\n"
    )
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    result = simple_evaluate(
        model="jaxseq", model_args=f"workdir={workdir}", tasks=["local"], task_manager=manager, batch_size=2
    )
    texts = [f"text number {i}" for i in range(3)]
    expected = (
        -sum(adapter.loglikelihood_rolling([Request((text,)) for text in texts])) / np.log(2) / sum(map(len, texts))
    )
    assert result["results"]["local"]["bits_per_byte,none"] == pytest.approx(expected, rel=1e-6)
