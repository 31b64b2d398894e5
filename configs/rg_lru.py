"""Hawk 200M (De et al. 2024, arXiv 2402.19427, table 2): RG-LRU blocks and gated-GELU MLPs, here over bytes.

173,986,816 parameters. A layer's decode state is 24,580 bytes a sequence: 1,536 channels, the last 3 inputs of the
convolution, and a count. Widths, depth, MLP expansion, gate blocks, length and tokens (3.9 billion in steps of 0.5
million) are the paper's; the embedding's scale, the cap on the logits and W_o's variance RecurrentGemma's code's. The
learning rate is not stated there.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=12,
            pattern=("rg_lru",),
            options={"rg_lru": {"inner": 1536, "heads": 16, "out_variance": 2 / 12}},
            mlp_width=3072,
            mlp="geglu",
            mlp_bias=True,
            residual_scale=False,
            embedding_scale=32.0,
            logit_cap=30.0,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=500),
        train=TrainConfig(steps=7440),
    )
