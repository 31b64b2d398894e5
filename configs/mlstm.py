"""An mLSTM language model of 165M parameters in xLSTM-7B's blocks (Beck et al. 2025, arXiv 2503.13427).

162,303,840 parameters. A sequence decodes from 296,464 bytes per layer: 4 heads of 96 x 192 states and their 97 for the
normaliser and its units. Sizes and rates are those of the authors' smallest JAX configuration, on SlimPajama.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50304,
            width=768,
            layers=12,
            pattern=("mlstm",),
            residual_scale=False,
            logit_cap=30.0,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=750),
        train=TrainConfig(steps=95000),
    )
