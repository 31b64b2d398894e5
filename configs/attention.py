"""A Transformer at the size of the others' smallest models: the baseline (Touvron et al. 2023, arXiv 2302.13971).

127,835,904 parameters, over bytes. A sequence decodes from 12,591,108 bytes per layer: keys and values of 2,048
tokens. RMSNorm, SwiGLU and rotary positions, as there; 12 heads of 64.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=768,
            layers=18,
            pattern=("attention",),
            options={"attention": {"heads": 12, "context": 2048}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=2000),
        train=TrainConfig(steps=20000),
    )
