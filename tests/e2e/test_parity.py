"""What a nonlinear recurrence can learn that a linear one cannot."""

from pathlib import Path

import pytest

from jaxseq.analysis.accuracy import answers_right
from jaxseq.config import load_config, override
from tests.e2e.conftest import train

CONFIG = Path(__file__).parent.parent.parent / "configs" / "parity.py"
SHORT = ("data.source=parity:20", "data.length=23", "train.steps=300", "train.save_every=0")


@pytest.mark.slow
def test_the_parity_config_learns_the_parity_of_20_bits(tmp_path):
    train(override(load_config(CONFIG), SHORT), str(tmp_path))
    assert answers_right(str(tmp_path)) >= 0.99
