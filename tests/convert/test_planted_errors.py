"""A wrong entry in any architecture's table is found by the comparison, and what was written with it is removed."""

import jax
import pytest

from jaxseq.checkpoint import save_model
from jaxseq.convert import hf
from jaxseq.convert.architectures import ARCHITECTURES
from jaxseq.convert.command import convert
from jaxseq.convert.hf import read_hf
from jaxseq.convert.table import same
from jaxseq.experiment import Experiment
from jaxseq.sharding import make_mesh
from tests.convert.classes import saved

pytestmark = pytest.mark.slow


def swapped(table, names):
    """The table, where it has both, with two parameters of one shape in each other's place."""
    if not set(names) <= {name for entry in table for name in entry.ours}:
        return table
    turn = dict(zip(names, reversed(names), strict=True))
    return tuple(e._replace(ours=tuple(turn.get(n, n) for n in e.ours)) for e in table)


def unturned(table, names):
    """The table without the transpose of a square matrix."""
    return tuple(same(e.ours[0], e.theirs[0]) if e.ours == names else e for e in table)


PLANTED = {
    "mamba": (swapped, ("mixer.w_x", "mixer.w_z")),
    "falcon_mamba": (swapped, ("mixer.d", "mixer.b_dt")),
    "mamba2": (swapped, ("mixer.a_log", "mixer.b_dt")),
    "recurrent_gemma": (swapped, ("mixer.w_r", "mixer.w_i")),
    "lfm2": (unturned, ("mixer.w_o",)),
    "qwen3_5_text": (swapped, ("mixer.w_q", "mixer.w_g")),
    "olmo_hybrid": (swapped, ("mixer_norm", "mlp_norm")),
    "kimi_linear": (swapped, ("mixer.w_dt_a", "mixer.w_z_a")),
    "minimax": (swapped, ("mixer.w_k", "mixer.w_v")),
    "rwkv": (swapped, ("mixer.mu_k", "mixer.mu_r")),
    "xlstm": (swapped, ("mixer.w_i", "mixer.w_f")),
}


def plant(monkeypatch, name):
    """Puts the error into the tables of the architecture."""
    spoil, names = PLANTED[name]

    def wrong(architecture):
        right = architecture.blocks
        return architecture._replace(blocks=lambda config: tuple(spoil(table, names) for table in right(config)))

    tables = tuple(wrong(a) if a.model_type == name else a for a in ARCHITECTURES)
    monkeypatch.setattr(hf, "ARCHITECTURES", tables)


def assert_refused(source, target, form):
    with pytest.raises(ValueError, match=r"the result is not right \(float32, logits\) and was removed"):
        convert(str(source), str(target), form, say=lambda _: None)
    assert [path.name for path in target.parent.iterdir()] == [source.name]


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_entry_is_found_when_read(name, tmp_path, monkeypatch):
    source = saved(name, tmp_path / "source")
    plant(monkeypatch, name)
    assert_refused(source, tmp_path / "out", "jaxseq")


def test_a_wrong_entry_is_found_when_written(tmp_path, monkeypatch, tmp_path_factory):
    folder = saved("mamba2", tmp_path_factory.mktemp("theirs"))
    model, params = read_hf(folder, make_mesh(devices=jax.devices()[:1]))
    (tmp_path / "source").mkdir()
    save_model(tmp_path / "source", Experiment(model=model.config), params)
    plant(monkeypatch, "mamba2")
    assert_refused(tmp_path / "source", tmp_path / "out", "hf")


def test_every_architecture_has_an_error_planted():
    assert set(PLANTED) == {a.model_type for a in ARCHITECTURES}
