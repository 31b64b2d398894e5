"""Processes find each other, or say who is missing. Threads stand for processes."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxseq.cluster.meeting import meet
from jaxseq.cluster.place import Place
from jaxseq.train.rehearsal import free_port


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def meet_all():
    """Runs `meet` for several places at once, and gives their futures; closes what was connected."""
    with ThreadPoolExecutor(8) as pool:
        futures = []

        def start(*places, timeout=20.0):
            futures.extend(pool.submit(meet, place, timeout) for place in places)
            return futures

        yield start
    for future in futures:
        for peer in future.result().values() if future.exception() is None else ():
            peer.close()


def test_all_meet_in_any_order(meet_all, address):
    last, first, middle = meet_all(*(Place(address, 3, i) for i in (2, 0, 1)))
    assert set(first.result()) == {1, 2}
    assert set(middle.result()) == set(last.result()) == {0}


def test_a_missing_process_is_named_to_all_who_came(meet_all, address):
    text = rf"2 of 4 processes came to {address} within 1 s, missing: 2, 3"
    first, other = meet_all(Place(address, 4, 0), Place(address, 4, 1), timeout=1.0)
    with pytest.raises(TimeoutError, match=text):
        first.result()
    with pytest.raises(ConnectionError, match=text):
        other.result()


def test_a_missing_process_0_is_named(address):
    with pytest.raises(TimeoutError, match=f"process 1 cannot reach process 0 at {address}"):
        meet(Place(address, 2, 1), 0.5)


def test_processes_that_expect_other_numbers_are_refused(meet_all, address):
    first, other = meet_all(Place(address, 2, 0), Place(address, 3, 1))
    for each in (first, other):
        with pytest.raises(ConnectionError, match="process 1 expects 3 processes, process 0 expects 2"):
            each.result()


def test_two_processes_of_the_same_number_are_refused(meet_all, address):
    first, *_ = meet_all(Place(address, 3, 0), Place(address, 3, 1), Place(address, 3, 1))
    with pytest.raises(ConnectionError, match="there are two processes 1"):
        first.result()


def test_a_stranger_at_the_port_is_ignored(meet_all, address):
    futures = meet_all(Place(address, 2, 0))
    host, port = address.split(":")
    while True:
        try:
            stranger = socket.create_connection((host, int(port)))
            break
        except ConnectionRefusedError:
            continue
    with stranger:
        stranger.sendall(b"GET / HTTP/1.1\n")
        first, other = meet_all(Place(address, 2, 1))
        assert set(first.result()) == {1}
        assert set(other.result()) == {0}
    assert len(futures) == 2


def test_a_port_in_use_is_named(address):
    message = f"process 0 cannot listen at {address}: Address already in use"
    with socket.create_server(("", int(address.split(":")[1]))), pytest.raises(ConnectionError, match=message):
        meet(Place(address, 2, 0), 1.0)
