"""A language model of block-diagonal linear RNNs (Fan et al. 2023, arXiv 2309.07412), of bytes; the paper has none.

205,830,912 parameters. A layer's decode state is 3,076 bytes a sequence: 96 blocks of 8, and a count. The block of 8 is
the paper's; the layer before the blocks is 1,536 wide where the paper's would have 6,144.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=768,
            layers=12,
            pattern=("block_lrnn",),
            options={"block_lrnn": {"block": 8, "hidden": 1536}},
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=5e-4, warmup=1000),
        train=TrainConfig(steps=5000),
    )
