"""The progress of a conversion: counted for every tensor, shown on a terminal alone."""

import io
import sys

import pytest

from jaxseq.convert.bar import bar
from jaxseq.convert.command import convert
from jaxseq.convert.hf import write_hf
from jaxseq.convert.load import load_model
from jaxseq.convert.pararnn_folder import write_pararnn
from jaxseq.convert.torch_folder import write_torch
from jaxseq.model import LanguageModel, ModelConfig, make_params
from jaxseq.sharding import make_mesh
from tests.convert.classes import saved


class Terminal(io.StringIO):
    """What believes that a person reads it."""

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return saved("mamba", tmp_path_factory.mktemp("source"))


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_hf, write_torch, write_pararnn])
def test_every_tensor_that_is_written_or_read_is_counted(source, write, tmp_path):
    model, params = load_model(source)
    if write is write_pararnn:
        model = LanguageModel(ModelConfig(vocab=20, width=8, mlp_width=0, remat="none"))
        params = make_params(model, 0, make_mesh((-1, 1, 1, 1)))
    written, read = [], []
    write(tmp_path, model.config, params, seen=lambda *counts: written.append(counts))
    load_model(tmp_path, seen=lambda *counts: read.append(counts))
    for counts in (written, read):
        assert len(counts) > 5
        assert counts == [(i + 1, len(counts)) for i in range(len(counts))]


def test_a_terminal_shows_how_many_are_done(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with bar("tensors read") as seen:
        seen(3, 7)
    assert "tensors read" in sys.stdout.getvalue()
    assert "3/7" in sys.stdout.getvalue()


def test_what_is_no_terminal_sees_nothing(source, tmp_path, capsys):
    convert(str(source), str(tmp_path / "out"), "hf", verify=False, say=lambda _: None)
    assert capsys.readouterr().out == ""


def test_without_rich_a_terminal_sees_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setattr(sys, "stdout", Terminal())
    with bar("tensors read") as seen:
        seen(1, 2)
    assert sys.stdout.getvalue() == ""
