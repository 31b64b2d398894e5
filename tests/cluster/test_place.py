"""Which process this is: flags before the environment, all three or none."""

import pytest

from jaxseq.cluster import Place, find_place, in_cluster

OURS = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
CLUSTERS = (
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "TPU_WORKER_HOSTNAMES",
    "TPU_PROCESS_ADDRESSES",
)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    for name in (*OURS, *CLUSTERS):
        monkeypatch.delenv(name, raising=False)


def test_without_flags_and_environment_there_is_one_process():
    assert find_place(None, None, None) is None
    assert not in_cluster()


def test_one_process_needs_no_coordinator():
    assert find_place(None, 1, None) is None


def test_the_environment_says_what_flags_do_not(monkeypatch):
    for name, value in zip(OURS, ("host:1", "4", "2"), strict=True):
        monkeypatch.setenv(name, value)
    assert find_place(None, None, None) == Place("host:1", 4, 2)
    assert find_place(None, None, 3) == Place("host:1", 4, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", 2, None), "must be given together .* got host:1, 2 and None"),
        ((None, 2, 0), "must be given together"),
        (("host:1", 2, 2), "process must be from 0 to processes - 1, got 2 of 2"),
        (("host", 2, 0), "coordinator must be host:port, got 'host'"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        find_place(*given)


def test_a_number_in_the_environment_must_be_one(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES must be a number, got 'two'"):
        find_place("host:1", None, 0)


@pytest.mark.parametrize(
    "found",
    [
        {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
    ],
    ids=["slurm", "open mpi", "tpu"],
)
def test_a_cluster_of_several_processes_is_seen(monkeypatch, found):
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert in_cluster()


def test_a_cluster_of_one_process_is_none(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node1")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    assert not in_cluster()
