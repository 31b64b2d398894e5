"""Mamba-2 130M (Dao and Gu 2024, arXiv 2405.21060, appendix D) with the authors' vocabulary of 50,288.

128,989,632 parameters. A sequence decodes from 807,936 bytes per layer: 24 heads of 128 x 64 states, and the last 3
inputs of the convolutions. 4,800 steps of 0.5M tokens, at five times GPT-3's learning rate.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50288,
            width=768,
            layers=24,
            pattern=("mamba2",),
            mlp_width=0,
            residual_scale=False,
            norm_eps=1e-5,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-3, warmup=480, end_fraction=1e-5 / 3e-3),
        train=TrainConfig(steps=4800),
    )
