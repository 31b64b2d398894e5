"""HGRN2 350M (Qin et al. 2024, arXiv 2404.07904) as in flash-linear-attention, of bytes.

304,202,752 parameters. A layer's decode state is 524,288 bytes a sequence: 8 heads of 128 keys and 128 values. Depth,
width, the expansion of 128 and the SwiGLU are the paper's; learning rate and warmup are flash-linear-attention's.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=24,
            pattern=("hgrn2",),
            options={"hgrn2": {"head_dim": 128}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=1024),
        train=TrainConfig(steps=20480),
    )
