"""Griffin 200M (De et al. 2024, arXiv 2402.19427, table 2): two RG-LRU blocks to one of local attention, over bytes.

163,308,544 parameters. An RG-LRU's decode state is 24,580 bytes a sequence; attention's, a ring of 1,024 keys and
values of one head of 128, 1,052,676. The rest is as in configs/rg_lru.py.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    attention = {"heads": 8, "kv_heads": 1, "window": 1024, "rope_fraction": 0.5, "out_bias": True}
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=12,
            pattern=("rg_lru", "rg_lru", "attention"),
            options={"rg_lru": {"inner": 1536, "heads": 16, "out_variance": 2 / 12}, "attention": attention},
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
