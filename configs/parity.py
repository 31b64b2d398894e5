"""The parity of 100 random bits: what a nonlinear recurrence learns and a diagonal linear one does not.

One ParaGRU layer, 59,073 parameters, without MLP, convolution (one tap) or bound on the recurrent weights; 600 steps of
32 rows of documents such as 0110=0. As in arXiv 2510.21450, table 6; here with a curriculum of lengths 1 to 100.

    python launch/train.py --config=configs/parity.py --workdir=runs/parity
    python launch/accuracy.py --workdir=runs/parity

--set=model.options.para_rnn.cell=para_lstm is the other cell, '--set=model.pattern=("lru",)' the linear control. Right
answers on the test split (2,000 documents of 100 bits), seed 0, on 2 CPU cores: ParaGRU 100 %, ParaLSTM 100 %, LRU
49.6 %.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        model=ModelConfig(
            width=64,
            layers=1,
            pattern=("para_rnn",),
            options={"para_rnn": {"conv_width": 1, "clip": None}},
            mlp_width=0,
        ),
        data=DataConfig(source="parity:100", length=103, batch=32),
        optim=OptimConfig(learning_rate=2e-2, warmup=50, weight_decay=0.0),
        train=TrainConfig(steps=600, log_every=50, save_every=600, sample_tokens=0),
    )
