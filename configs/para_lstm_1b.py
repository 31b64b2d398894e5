"""ParaLSTM 1B (Danieli et al. 2025, arXiv 2510.21450, tables 3 and 4), untied, GPT-NeoX vocabulary.

1,414,793,240 parameters. A sequence decodes from 40,960 bytes per layer: c and h, and the last 3
inputs of the convolution. Warm-up over a tenth of the steps, a cosine to 0, weight decay 1e-4.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            vocab=50304,
            width=2048,
            layers=24,
            pattern=("para_rnn",),
            options={"para_rnn": {"cell": "para_lstm", "heads": 4}},
            mlp_width=5632,
            dtype="bfloat16",
        ),
        data=DataConfig(length=2048, batch=256),
        optim=OptimConfig(learning_rate=3e-3, warmup=5500, end_fraction=0.0, weight_decay=1e-4),
        train=TrainConfig(steps=55000),
        mesh=(4, -1, 1, 1),  # a chip sends less than with parameters over all 256: launch/pod/README.md
        topology="v5e:16x16",
    )
