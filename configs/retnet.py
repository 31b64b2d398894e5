"""RetNet 340M (Sun et al. 2023, arXiv 2307.08621), of bytes, at the width and depth of the GLA paper's comparison.

352,924,672 parameters. A layer's decode state is 2,097,156 bytes a sequence: 4 heads of 256 keys and 512 values, and a
count. Key heads of 256 and values twice the keys' width are the paper's; the rest is as in configs/gla.py.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=24,
            pattern=("retnet",),
            options={"retnet": {"heads": 4}},
            mlp_width=2048,
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=1024),
        train=TrainConfig(steps=20480),
    )
