"""A disk that fills up or goes away stops the run with an error that says so; the last good checkpoint is whole."""

import gc
import resource
import shutil
from dataclasses import replace

import pytest

from jaxseq.checkpoint import read_model
from jaxseq.model import ModelConfig
from jaxseq.train.session import Session
from tests.e2e.conftest import losses, tiny, train

# Of a write that failed, orbax leaves coroutines that nobody awaits, and loops that are closed under them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected():
    """What is left behind ends here, and not in another test."""
    yield
    gc.collect()


def small(corpus, **fields):
    return replace(tiny(corpus, **fields), model=ModelConfig(width=16, layers=1, pattern=("min_gru",)))


@pytest.fixture
def before_saving(monkeypatch):
    """before_saving(step, act) calls act just before that step is saved."""
    genuine = Session.save

    def at(wanted, act):
        def save(self, step, score=None):
            if step == wanted:
                self.checkpoints.finish()
                act()
            genuine(self, step, score)

        monkeypatch.setattr(Session, "save", save)

    yield at
    monkeypatch.undo()


@pytest.fixture
def file_size():
    """Sets the size that no file may exceed, for the rest of the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_the_run_goes_on_later(corpus, tmp_path, before_saving, file_size):
    before_saving(4, lambda: file_size(2048))
    with pytest.raises(OSError, match=r"a checkpoint could not be written \(.*\); the last checkpoint is of step 2"):
        train(small(corpus), str(tmp_path))
    file_size(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    before_saving(-1, None)
    assert read_model(tmp_path)[3] == 2
    with pytest.warns(UserWarning, match="checkpoint 4 was not finished: ignored"):
        train(small(corpus), str(tmp_path))
    assert max(losses(tmp_path)) == 6


@pytest.mark.slow
def test_a_folder_that_vanished_is_made_again_and_the_run_goes_on(corpus, tmp_path, before_saving):
    before_saving(4, lambda: shutil.rmtree(tmp_path / "checkpoints"))
    train(small(corpus), str(tmp_path))
    assert read_model(tmp_path)[3] == 6


def test_a_folder_that_cannot_be_written_is_an_error(corpus, tmp_path, before_saving):
    def replaced():
        (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
        (tmp_path / "checkpoints").write_text("")

    before_saving(4, replaced)
    with pytest.raises(OSError, match=r"a checkpoint could not be written"):
        train(small(corpus), str(tmp_path))
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "checkpoints")
    assert read_model(tmp_path)[3] == 2
