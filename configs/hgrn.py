"""HGRN 350M (Qin et al. 2023, arXiv 2311.04823): complex HGRUs with lower bounds that grow over 24 layers, of bytes.

328,041,472 parameters. A layer's decode state is 8,192 bytes a sequence: 1,024 complex numbers. Width and depth are the
paper's; the MLP's width is ours, the learning rate, betas and weight decay those of its WikiText-103 model.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=1024,
            layers=24,
            pattern=("hgrn",),
            mlp_width=2048,
            residual_scale=False,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=5e-4, warmup=1000, b1=0.9, b2=0.98, weight_decay=0.2),
        train=TrainConfig(steps=20000),
    )
