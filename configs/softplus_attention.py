"""LSSAR at the size of GPT-2 small (Gao & Spratling 2025, arXiv 2501.13428): softplus and a 15th power for the softmax.

123,587,328 parameters: the vocabulary of GPT-2 is rounded up to 50,304, to be divided over devices. Trained at 1,024
tokens, to read 16 times as many: a sequence decodes from up to 100,728,836 bytes per layer. RMSNorm, a SwiGLU as large
as GPT-2's MLP and the optimizer's figures are ours.
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
            pattern=("attention",),
            options={"attention": {"heads": 12, "context": 16384, "weights": "softplus"}},
            mlp_width=2048,
            residual_scale=False,
            tied=True,
            dtype="bfloat16",
        ),
        data=DataConfig(length=1024, batch=512),
        optim=OptimConfig(learning_rate=6e-4, warmup=700),
        train=TrainConfig(steps=20000),
    )
