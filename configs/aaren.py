"""Transformer blocks with Aaren for attention (Feng et al. 2024, arXiv 2405.13956), over bytes.

139,777,024 parameters. A sequence decodes from 4,224 bytes per layer: 16 heads of 64 sums and two numbers.
The paper has no language model: width, depth, SwiGLU and training are ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=12,
            pattern=("aaren",),
            options={"aaren": {"heads": 16}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=500),
        train=TrainConfig(steps=5000),
    )
