"""DeltaNet-340M (Yang et al. 2024, arXiv 2406.06484, section 4) with a vocabulary of 32,000.

341,594,112 parameters. A sequence decodes from 561,152 bytes per layer: 8 heads of 128 x 128 states, and the last 3
inputs of the convolutions. 15B tokens in batches of 0.5M.
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
            pattern=("delta_net",),
            mlp_width=2816,
            residual_scale=False,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=1024),
        train=TrainConfig(steps=30720),
    )
