"""What a row of metrics looks like to a person."""

import pytest

from jaxseq.train.progress import Progress, clock, describe

ROW = {"step": 5, "loss": 1.25, "bits_per_byte": 1.8125, "tokens_per_second": 12345.6}


def test_a_row_is_one_line():
    assert describe(ROW) == "loss 1.2500  1.812 bits/byte  12,346 tokens/s"


def test_newton_and_validation_appear_where_they_are_known():
    text = describe(ROW | {"iterations": 3.25, "converged": 0.5, "validation_bits_per_byte": 2.0})
    assert "validation 2.000" in text
    assert "newton 3.2 it, 50% converged" in text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3599.9, "1:00:00"), (7325, "2:02:05")])
def test_times_are_clocks(seconds, text):
    assert clock(seconds) == text


def test_lines_are_plain_where_there_is_no_terminal(capsys):
    progress = Progress(10)
    progress.show(ROW, 30)
    progress.note("a note")
    progress.close()
    assert capsys.readouterr().out == f"step 5/10  {describe(ROW)}  ETA 0:30\na note\n"


def test_a_terminal_gets_one_live_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = Progress(10)
    progress.show(ROW, 30)
    progress.note("a [note] that stays")
    progress.close()
    output = capsys.readouterr().out
    assert "a [note] that stays" in output
    assert "5/10" in output
