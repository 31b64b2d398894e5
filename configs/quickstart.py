"""A ParaGRU language model of the Python standard library's sources, trained by Newton solves."""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(width=128, layers=2, pattern=("para_rnn",)),
        data=DataConfig(source="stdlib", length=256, batch=16),
        optim=OptimConfig(learning_rate=5e-3, warmup=50),
        train=TrainConfig(steps=700, eval_every=100, save_every=100),
    )
