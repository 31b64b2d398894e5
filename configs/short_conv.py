"""Near LFM2-350M (Liquid AI 2025, arXiv 2511.23404, table 1): 10 convolutions, and 5 attention layers for its 6.

337,179,648 parameters. LFM2's order is less regular, and it has a norm of queries and keys. A sequence decodes from
8,192 bytes per convolution, its last 2 inputs, and 8,396,804 bytes per attention layer, of 8 key heads of 64 and up to
2,048 tokens. The optimizer's figures are ours.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=65536,
            width=1024,
            layers=15,
            pattern=("short_conv", "short_conv", "attention"),
            options={"attention": {"heads": 16, "kv_heads": 8, "rope_base": 1e6}},
            mlp_width=4608,
            residual_scale=False,
            norm_eps=1e-5,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-4, warmup=1000),
        train=TrainConfig(steps=20000),
    )
