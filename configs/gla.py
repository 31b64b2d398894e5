"""GLA 340M (Yang et al. 2023, arXiv 2312.06635, table 2), of bytes.

309,210,112 parameters. A layer's decode state is 524,288 bytes a sequence: 4 heads of 128 keys and 256 values. Width,
depth, heads, the halved keys, the SwiGLU, length, batch, learning rate, warmup and steps are those of the paper and of
flash-linear-attention; the latter's vocabulary has 32,000 entries.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=24,
            pattern=("gla",),
            options={"gla": {"heads": 4}},
            mlp_width=2816,
            residual_scale=False,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=1024),
        train=TrainConfig(steps=20480),
    )
