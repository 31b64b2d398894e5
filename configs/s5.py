"""A language model of S5 (Smith et al. 2023, arXiv 2208.04933) of bytes; the paper has none.

152,402,944 parameters. A layer's decode state is 4,096 bytes a sequence: 512 complex numbers, one of each pair. HiPPO-N
in 8 blocks, zoh, Δ between 0.001 and 0.1, and the full GLU are the paper's choices for its long sequences; width,
depth, SwiGLU and training are ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=12,
            pattern=("s5",),
            options={"s5": {"states": 1024, "blocks": 8}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=500),
        train=TrainConfig(steps=5000),
    )
