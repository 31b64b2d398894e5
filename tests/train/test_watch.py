"""What a run is watched by."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.sharding import make_mesh, row_share
from jaxseq.train.step import place
from jaxseq.train.watch import Meter, batch_digest, steps_of


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "tokens": rng.integers(0, 257, (8, 5)).astype(np.int32),
        "reset": rng.integers(0, 2, (8, 4)).astype(bool),
        "weight": rng.integers(0, 2, (8, 4)).astype(np.float32),
    }


def digest(batch):
    return int(batch_digest({name: jnp.asarray(x) for name, x in batch.items()}))


def test_a_batch_has_the_same_digest_however_it_is_split(batch):
    meshes = [make_mesh((n, 1, 1, 1), jax.devices()[:n]) for n in (1, 2, 8)]
    assert {int(batch_digest(place(batch, mesh))) for mesh in meshes} == {digest(batch)}


@pytest.mark.parametrize("name", ["tokens", "reset", "weight"])
def test_any_changed_entry_changes_the_digest(batch, name):
    seen = {digest(batch)}
    for index in np.ndindex(batch[name].shape):
        changed = {key: x.copy() for key, x in batch.items()}
        changed[name][index] = 1 - changed[name][index]
        seen.add(digest(changed))
    assert len(seen) == 1 + batch[name].size


def test_rows_in_another_order_change_the_digest(batch):
    assert digest({name: x[::-1] for name, x in batch.items()}) != digest(batch)


def test_saves_and_evaluations_are_no_part_of_the_pace_but_saves_are_told():
    meter = Meter()
    with meter.apart(), meter.apart(save=True):
        time.sleep(0.2)
    meter.count(100.0)
    read = meter.read()
    assert read["save_seconds"] >= 0.2
    assert read["tokens_per_second"] == read["tokens_per_second_per_device"] * jax.device_count()
    assert "save_seconds" not in meter.read()


def test_the_share_of_waiting_for_data_is_told():
    meter = Meter()
    with meter.waiting():
        time.sleep(0.2)
    meter.count(100.0)
    assert 0.5 < meter.read()["data_wait"] <= 1


def test_steps_to_profile():
    assert steps_of("3:5") == (3, 5)
    assert steps_of(None) is None


@pytest.mark.parametrize("text", ["5", "5:5", "a:b", "3:5:7"])
def test_other_steps_are_refused(text):
    with pytest.raises(ValueError, match=f"profile must be START:STOP with START < STOP, got '{text}'"):
        steps_of(text)


class Device:
    """Of a pod: what a mesh knows of it."""

    def __init__(self, process):
        self.process_index = process


class Pod:
    """A mesh of devices of several processes."""

    def __init__(self, sizes, processes):
        self.shape = dict(zip(("data", "fsdp", "tensor", "seq"), sizes, strict=True))
        count = int(np.prod(sizes))
        self.devices = np.array([Device(i * processes // count) for i in range(count)]).reshape(sizes)


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [
        ((8, 1, 1, 1), [(0, 4), (1, 4), (2, 4), (3, 4)]),
        ((2, 2, 2, 1), [(0, 4), (1, 4), (2, 4), (3, 4)]),
        ((1, 2, 1, 4), [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ((1, 1, 1, 8), [(0, 1)] * 4),
    ],
)
def test_processes_share_the_rows_as_their_devices_do(monkeypatch, sizes, shares):
    for process, share in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert row_share(Pod(sizes, 4)) == share


def test_a_mesh_that_gives_a_process_scattered_rows_is_refused(monkeypatch):
    pod = Pod((4, 1, 1, 1), 2)
    pod.devices = pod.devices[[0, 2, 1, 3]]
    with pytest.raises(ValueError, match="rows of process 0 must be one part of equals"):
        row_share(pod)
