"""A language model of LRUs at the size of GPT-2 small (Orvieto et al. 2023, arXiv 2303.06349; the paper has none).

149,124,864 parameters, over bytes. A sequence decodes from 6,144 bytes per layer: 768 complex states. |λ| starts in
[0.9, 0.999] and phases below π/10, the paper's choices for long sequences.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(width=768, layers=18, pattern=("lru",), residual_scale=False, dtype="bfloat16"),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=1e-3, warmup=500, weight_decay=0.05),
        train=TrainConfig(steps=5000),
    )
