"""A hybrid in the style of Samba (Ren et al. 2024, arXiv 2406.07522): Mamba and sliding-window attention in turn.

403,530,752 parameters. A sequence decodes from 155,648 bytes in a Mamba layer and, of attention, 16,785,412 (a
ring of 2,048 tokens, 16 heads of 64). Every layer of either kind has its SwiGLU; the smallest model of the paper has
421M parameters.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=32000,
            width=1024,
            layers=24,
            pattern=("mamba", "attention"),
            options={"attention": {"heads": 16, "window": 2048}},
            mlp_width=2816,
            residual_scale=False,
            norm_eps=1e-5,
            dtype="bfloat16",
        ),
        data=DataConfig(length=4096, batch=256),
        optim=OptimConfig(learning_rate=4e-4, warmup=1000),
        train=TrainConfig(steps=20000),
    )
