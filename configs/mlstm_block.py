"""xLSTM[1:0] of the 125M class (Beck et al. 2024, arXiv 2405.04517, section 4), with a vocabulary of 50,304.

163,825,344 parameters. A sequence decodes from 2,383,888 bytes per layer: 4 heads of 384 x 384 states and their 385 for
the normaliser and its units, and the last 3 inputs of the convolution. 15B tokens; the learning rate is ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50304,
            width=768,
            layers=24,
            pattern=("mlstm_block",),
            mlp_width=0,
            residual_scale=False,
            norm="layer",
            norm_eps=1e-5,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=750),
        train=TrainConfig(steps=30000),
    )
