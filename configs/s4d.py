"""A language model of S4D-Lin (Gu et al. 2022, arXiv 2206.11893) of bytes; the paper has none.

128,803,840 parameters. A layer's decode state is 262,144 bytes a sequence: 32 complex numbers, one of each pair, for
each of 1,024 channels. States, Δ between 0.001 and 0.1 and the GLU are the paper's; width, depth, SwiGLU and training
are ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=12,
            pattern=("s4d",),
            options={"s4d": {"states": 64}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=500),
        train=TrainConfig(steps=5000),
    )
