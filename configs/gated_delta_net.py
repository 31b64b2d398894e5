"""Gated DeltaNet at 400M (Yang et al. 2024, arXiv 2412.06464, table of ablations), with a vocabulary of 32,000.

391,885,968 parameters. A sequence decodes from 1,609,728 bytes per layer: 3 heads of 256 x 512 states, and the last 3
inputs of the convolutions. 15B tokens in batches of 0.5M. The number of layers is ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=32000,
            width=1024,
            layers=24,
            pattern=("gated_delta_net",),
            mlp_width=2816,
            residual_scale=False,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=4e-4, warmup=2048),
        train=TrainConfig(steps=30720),
    )
