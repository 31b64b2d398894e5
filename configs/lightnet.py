"""LightNet 350M (Qin et al. 2024, arXiv 2405.21022), over bytes.

310,469,632 parameters. A sequence decodes from 528,384 bytes per layer: 8 heads of 128 x 128 sums, and 1,024
logarithms. SwiGLU is ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=24,
            pattern=("lightnet",),
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=1024),
        train=TrainConfig(steps=20480),
    )
