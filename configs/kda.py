"""Kimi Linear made small (Kimi Team 2025, arXiv 2510.26692): three KDA layers to one of attention without positions.

350,926,224 parameters, dense, with plain attention for its latent attention, and a vocabulary of 32,000. A sequence
decodes from 561,152 bytes per KDA layer, 8 heads of 128 x 128 states and the last 3 inputs of the convolutions, and
16,785,412 bytes per attention layer of up to 2,048 tokens. The optimizer's figures are Gated DeltaNet's.
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
            pattern=("kda", "kda", "kda", "attention"),
            options={"attention": {"heads": 8, "rope_fraction": 0.0}},
            mlp_width=2816,
            residual_scale=False,
            norm_eps=1e-5,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=4e-4, warmup=2048),
        train=TrainConfig(steps=30720),
    )
