"""ParaGRU 7B (Danieli et al. 2025, arXiv 2510.21450, tables 3 and 4), untied, GPT-NeoX vocabulary.

6,755,717,152 parameters. A sequence decodes from 65,536 bytes per layer: h, and the last 3
inputs of the convolution. Warm-up over a tenth of the steps, a cosine to 0, weight decay 1e-4.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50304,
            width=4096,
            layers=32,
            pattern=("para_rnn",),
            options={"para_rnn": {"heads": 4}},
            mlp_width=11008,
            dtype="bfloat16",
            remat="states",
        ),
        data=DataConfig(length=2048, batch=2048),
        optim=OptimConfig(learning_rate=3e-3, warmup=3300, end_fraction=0.0, weight_decay=1e-4, z_loss=5e-6),
        train=TrainConfig(steps=33000),
        mesh=(8, -1, 1, 1),  # parameters over groups of 64 chips
        topology="v5p:8x8x8",
    )
