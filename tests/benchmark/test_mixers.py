"""The benchmark of mixers, as far as it is not a matter of time."""

import sys

import pytest
import transformers

from jaxseq.benchmark import BENCHMARKS, mixers_jax
from jaxseq.benchmark.mixers_jax import PEERS as JAX_PEERS
from jaxseq.benchmark.mixers_jax import beside_jax
from jaxseq.benchmark.mixers_peers import PEERS
from jaxseq.benchmark.mixers_table import THIRD_PARTY, markdown, paper
from jaxseq.convert.hf import read_hf_config
from jaxseq.mixers import MIXERS
from jaxseq.mixers.lru import LRU

ROW = {"mixer": "rg_lru+attention", "state_bytes": 1234, "tokens_per_second": 5678}


def test_rows_become_a_table_with_a_link_to_the_paper():
    speeds = {"faster_training": 5.25, "fastest_training": 9.0, "faster_decoding": 3.0}
    beside = {"class": "X", "deviation": 2.4e-6, **speeds}
    title, rule, alone, both = markdown([ROW, ROW | beside])
    assert title.count("|") == rule.count("|") == alone.count("|") == both.count("|")
    assert alone.startswith("| `rg_lru` | [2402.19427](https://arxiv.org/abs/2402.19427) | transformers Recurrent")
    assert alone.endswith("| 1,234 | 5,678 | - |")
    assert both.endswith("| 2e-06, 5.2x (9.0x), 3.0x |")


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_names_its_paper(name):
    assert paper(name).startswith("[")


def test_what_mixers_are_checked_against_is_of_mixers():
    assert set(THIRD_PARTY) <= set(MIXERS)


@pytest.mark.parametrize("benchmark", ["mixers", "depth"])
def test_a_mixer_that_is_not_there_is_named(benchmark):
    with pytest.raises(ValueError, match=r"mixer must be .*one of .*, got 'lstm'"):
        next(BENCHMARKS[benchmark](mixer="lstm"))


@pytest.mark.parametrize("name", PEERS)
def test_a_model_that_is_measured_beside_transformers_has_the_mixer(name, tmp_path):
    PEERS[name](transformers).config.save_pretrained(tmp_path)
    assert name in read_hf_config(tmp_path)[1].pattern


def test_a_mixer_is_as_its_own_peer(monkeypatch):
    mixer = LRU(mixers_jax.WIDTH)
    theirs = lambda params: (lambda p, x: mixer.apply({"params": p}, x)[0], params)  # noqa: E731
    monkeypatch.setitem(JAX_PEERS, "lru", mixers_jax.Peer("ours", mixer, theirs))
    for name, size in {"TIME": 4, "ROUNDS": 1}.items():
        monkeypatch.setattr(mixers_jax, name, size)
    (row,) = beside_jax("lru")
    assert row["deviation"] == 0
    assert {"faster_forward", "faster_training"} <= set(row)


@pytest.mark.parametrize("name", JAX_PEERS)
def test_code_that_is_not_on_the_path_is_said_to_be_missing(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "recurrentgemma", None)
    monkeypatch.setitem(sys.modules, "s5", None)
    (row,) = beside_jax(name)
    assert row["mixer"] == name
    assert row["missing"]
    assert "deviation" not in row
