"""Checkpoints that were damaged, runs that diverge: nothing is loaded silently and nothing is lost."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxseq.checkpoint import read_model
from tests.e2e.conftest import losses, rows, run, small_flags, tiny, train
from tests.marks import slow_but


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the finished run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def heart(folder):
    """The file that holds what a restore reads of an item."""
    found = [*folder.glob("d/*"), *folder.glob("process_*.json"), *folder.glob("metadata")]
    return max(found, key=lambda path: path.stat().st_size)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage", [cut_short, pytest.param(flip_a_byte, marks=pytest.mark.slow)], ids=["cut", "flipped"]
)
@pytest.mark.parametrize("item", slow_but("params", ["params", "optimizer", "data", "meta"]))
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(copied, trained, corpus, item, damage):
    damage(heart(copied / "checkpoints" / "6" / item))
    with pytest.warns(UserWarning, match="checkpoint 6 is damaged .*using an older one"):
        train(tiny(corpus), str(copied))
    assert losses(copied) == losses(trained)
    assert len(list((copied / "damaged").iterdir())) == 1


def test_a_missing_item_is_damage_too(copied, trained, corpus):
    shutil.rmtree(copied / "checkpoints" / "6" / "optimizer")
    with pytest.warns(UserWarning, match="checkpoint 6 is damaged"):
        train(tiny(corpus), str(copied))
    assert losses(copied) == losses(trained)


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_all_damaged_starts_again_from_the_same_data(copied, trained, corpus):
    for step in (4, 6):
        flip_a_byte(heart(copied / "checkpoints" / str(step) / "params"))
    with pytest.warns(UserWarning, match="checkpoint [46] is damaged"):
        train(tiny(corpus), str(copied))
    assert losses(copied) == losses(trained)
    assert len(list((copied / "damaged").iterdir())) == 2


def test_an_unfinished_checkpoint_is_named_and_ignored(copied, trained, corpus):
    (copied / "checkpoints" / "6").rename(copied / "checkpoints" / "6.orbax-checkpoint-tmp")
    with pytest.warns(UserWarning, match="checkpoint 6 was not finished"):
        train(tiny(corpus), str(copied))
    assert losses(copied) == losses(trained)


@pytest.mark.slow
def test_the_script_says_so_in_one_line_and_goes_on(corpus, tmp_path):
    flags = [f"--workdir={tmp_path}", *small_flags(corpus, steps=4, save_every=2)]
    assert run("train", *flags).returncode == 0
    flip_a_byte(heart(tmp_path / "checkpoints" / "4" / "params"))
    done = run("train", *flags)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: checkpoint 4 is damaged")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "resuming from the checkpoint of step 2" in done.stdout


def test_reading_a_damaged_checkpoint_names_the_whole_ones(copied):
    flip_a_byte(heart(copied / "checkpoints" / "6" / "params"))
    with pytest.raises(ValueError, match=r"checkpoint 6 of .* is damaged .*others: \[4\]"):
        read_model(copied)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(corpus, tmp_path):
    config = tiny(corpus, steps=40, save_every=1)
    # Adam's steps have the size of the learning rate: with this one, weights overflow once the warm-up is over.
    config = replace(config, optim=replace(config.optim, learning_rate=1e38, warmup=3))
    with pytest.raises(
        FloatingPointError, match=r"is (nan|inf) at step \d+: stopped; the last good checkpoint is of step"
    ):
        train(config, str(tmp_path))
    params = read_model(tmp_path)[2]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_the_last_and_the_best_checkpoints_stay(corpus, tmp_path):
    config = tiny(corpus, steps=8, save_every=1, eval_every=1, eval_batches=1, keep_last=2)
    config = replace(config, optim=replace(config.optim, learning_rate=1.0))  # far too large: an early step is the best
    train(config, str(tmp_path))
    scores = {step: row["validation_bits_per_byte"] for step, row in rows(tmp_path).items()}
    best = min(scores, key=scores.__getitem__)
    assert best < 7
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [best, 7, 8]
