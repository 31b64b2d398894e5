"""A language model of minLSTM (Feng et al. 2024, arXiv 2410.01201) of bytes; the paper has none of this size.

202,826,752 parameters. A layer's decode state is 20,480 bytes a sequence: 2,048 channels, and the last 3 inputs of the
convolution. The log-space form, convolution, and channels twice the width are the paper's; width, depth, SwiGLU and
training are ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=12,
            pattern=("min_lstm",),
            options={"min_lstm": {"inner": 2048}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=500),
        train=TrainConfig(steps=5000),
    )
