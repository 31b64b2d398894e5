"""What the loop says of a run's solves, and when it gets ready to save."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxseq import fingerprint
from jaxseq.checkpoint import Checkpoints
from jaxseq.train.loop import Loop, _first_logged


class Notes(list):
    note = list.append


@pytest.fixture
def loop():
    loop = object.__new__(Loop)
    loop._progress, loop._converged, loop._few_iterations, loop._first_iterations = Notes(), True, True, None
    return loop


def check(loop, step, iterations):
    loop._check(step, {"loss": 1.0, "grad_norm": 1.0, "converged": 1.0, "iterations": iterations})


def test_more_than_twice_the_first_iterations_is_noted_once(loop):
    for step, iterations in enumerate((3.0, 6.0, 6.5, 9.0), 1):
        check(loop, step, iterations)
    (note,) = loop._progress
    assert note.startswith("note: at step 3 Newton takes 6.5 iterations, at step 1 it took 3.0")


def test_sequential_solves_are_never_noted(loop):
    check(loop, 1, 0.0)
    check(loop, 2, 0.0)
    assert not loop._progress


def test_a_resumed_run_compares_with_its_own_first_step(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    assert _first_logged(metrics) is None
    metrics.write_text("".join(json.dumps({"step": s, "iterations": 2.0 + s}) + "\n" for s in (1, 10)))
    assert _first_logged(metrics) == (1, 3.0)


def test_a_run_prepares_its_saves_before_its_first_step(loop):
    calls = []
    saves = SimpleNamespace(prepare=lambda *trees: calls.append(("prepare", *trees)), finish=lambda: None)
    loop._session = SimpleNamespace(
        config=SimpleNamespace(train=SimpleNamespace(steps=3)),
        start=3,
        state=SimpleNamespace(params="p", opt_state="o"),
        checkpoints=saves,
        save=lambda step: calls.append(("save", step)),
    )
    loop._pending, loop._tracer = None, SimpleNamespace(close=lambda: None)
    assert loop.run(SimpleNamespace(reached=lambda step: False)) == 3
    assert calls == [("prepare", "p", "o"), ("save", 3)]


def test_fingerprints_that_were_prepared_are_not_compiled_again(monkeypatch):
    params, optimizer = {"w": jnp.ones((2, 3))}, [jnp.ones(7, jnp.bfloat16)]
    Checkpoints.prepare(object.__new__(Checkpoints), params, optimizer)
    monkeypatch.setattr(fingerprint, "_bits", None)  # what compiling them would call
    assert fingerprint.fingerprint({"w": jnp.zeros((2, 3))}) == 0
    assert fingerprint.fingerprint([jnp.zeros(7, jnp.bfloat16)]) == 0
