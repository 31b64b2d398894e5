"""Train steps compiled for 8 and for 256 chips: a chip exchanges as much."""

import pytest

from jaxseq.experiment import DataConfig, Experiment
from jaxseq.model import ModelConfig
from jaxseq.preflight import scaling_table
from jaxseq.preflight.scaling import SLICES, on_slice

SMALL = {"layers": 2, "mlp_width": 256, "dtype": "bfloat16"}


def config(mixer, width, length):
    return Experiment(
        model=ModelConfig(pattern=(mixer,), width=width, **SMALL), data=DataConfig(length=length), mesh=(1, 1, 1, 1)
    )


def eight_and_256(kind, experiment):
    return [on_slice(experiment, kind, *SLICES[kind][i]) for i in (0, -1)]


def check_constant(few, many):
    assert (few["chips"], many["chips"]) == (8, 256)
    assert few["payload_bytes"] > 4 * few["parameters"]
    assert many["payload_bytes"] == pytest.approx(few["payload_bytes"], rel=0.05)
    # A ring of n sends (n - 1) / n of it.
    assert many["sent_bytes"] <= 1.05 * few["sent_bytes"] * (255 / 256) / (7 / 8)


@pytest.mark.slow
def test_with_parameters_over_chips_256_exchange_what_8_do():
    few, many = eight_and_256("fsdp", config("para_rnn", 512, 64))
    check_constant(few, many)
    assert many["collectives"]["reduce-scatter"]["payload"] > 0.2 * many["payload_bytes"]  # gradients


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["para_rnn", "mamba2", "lru"])
def test_with_time_over_chips_256_exchange_what_8_do(mixer):
    few, many = eight_and_256("seq", config(mixer, 256, 64))
    check_constant(few, many)


def test_a_kind_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="scaling must be one of fsdp, whole, seq, got 'tensor'"):
        list(scaling_table(config("lru", 128, 16), "tensor"))
