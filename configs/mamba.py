"""Mamba-130M (Gu and Dao 2023, arXiv 2312.00752, appendix E.2) with the authors' vocabulary of 50,280.

129,135,360 parameters. A sequence decodes from 116,736 bytes per layer: 1,536 channels of 16 states, and the last 3
inputs of the convolution. 4,800 steps of 0.5M tokens, at five times GPT-3's learning rate.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50280,
            width=768,
            layers=24,
            pattern=("mamba",),
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
