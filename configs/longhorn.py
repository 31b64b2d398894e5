"""Longhorn-120M as its authors trained it on OpenWebText (Liu et al. 2024, arXiv 2407.14207).

128,563,968 parameters. A sequence decodes from 116,736 bytes per layer: 1,536 channels of 16 states, and the last 3
inputs of the convolution. 5,000 steps of 480 x 1,024 tokens of a vocabulary of 50,304.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50304,
            width=768,
            layers=24,
            pattern=("longhorn",),
            mlp_width=0,
            residual_scale=False,
            norm_eps=1e-5,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=1024, batch=480),
        optim=OptimConfig(learning_rate=6e-4, warmup=250),
        train=TrainConfig(steps=5000),
    )
