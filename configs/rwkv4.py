"""RWKV-4 169M (Peng et al. 2023, arXiv 2305.13048, table 2) with the authors' vocabulary of 50,277.

169,342,464 parameters. A sequence decodes from 12,288 bytes per layer of time mixing, 3 numbers a channel and the last
input, and from 3,072 per layer of channel mixing. Sizes, length and learning rate are the authors'; batch and steps
are not.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50277,
            width=768,
            layers=24,
            pattern=("rwkv4", "channel_mix"),
            options={"channel_mix": {"version": 4}},
            mlp_width=0,
            residual_scale=False,
            norm="layer",
            norm_eps=1e-5,
            embedding_norm=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=1024, batch=256),
        optim=OptimConfig(learning_rate=6e-4, b2=0.99, weight_decay=0.0),
        train=TrainConfig(steps=10000),
    )
