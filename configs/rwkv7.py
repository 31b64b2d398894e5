"""RWKV-7 0.1B (Peng et al. 2025, arXiv 2503.14456) with the authors' vocabulary of 65,536.

191,084,544 parameters. A sequence decodes from 199,680 bytes per layer: 12 heads of 64 x 64 states, and the last input.
The channel mixing, a layer of its own, keeps 3,072 bytes. Rates are those of the authors' training code.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=65536,
            width=768,
            layers=24,
            pattern=("rwkv7", "channel_mix"),
            options={"channel_mix": {"version": 7}},
            mlp_width=0,
            residual_scale=False,
            norm="layer",
            norm_eps=1e-5,
            embedding_norm=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=6e-4, b2=0.99, eps=1e-18, weight_decay=0.001),
        train=TrainConfig(steps=4800),
    )
