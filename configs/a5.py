"""The word problem of A5 for words of 20 cycles: what channels that mix learn and channels that do not, do not.

One multiplicative LSTM layer with dense recurrent matrices, 87,745 parameters, without MLP, convolution (one tap) or
bound; 3,000 steps of 128 rows of documents such as abA= and one of sixty bytes, lengths 1 to 20 (see `a5_cycles` in
`data.synthetic`; A5 is not solvable, arXiv 2404.08819).

    python launch/train.py --config=configs/a5.py --workdir=runs/a5
    python launch/accuracy.py --workdir=runs/a5

'--set=model.options.para_rnn.cell=para_lstm' with '--set=model.options.para_rnn.recurrent=diagonal' is the control.
Right answers on the test split (2,000 words of 20 letters, of 4^20), seed 0, 2 CPU cores shared with other work: 99.4 %
after 8.7 minutes of CPU time; ParaLSTM 2.4 % (chance: 1.7 %) after 7.3.
"""

from jaxseq.experiment import DataConfig, Experiment, OptimConfig, TrainConfig
from jaxseq.model import ModelConfig


def get_config() -> Experiment:
    """The experiment."""
    cell = {"cell": "multiplicative_lstm", "recurrent": "dense", "conv_width": 1, "clip": None, "solver": "auto"}
    return Experiment(
        model=ModelConfig(width=64, layers=1, pattern=("para_rnn",), options={"para_rnn": cell}, mlp_width=0),
        data=DataConfig(source="a5_cycles:20", length=23, batch=128),
        optim=OptimConfig(learning_rate=5e-3, warmup=100, weight_decay=0.0),
        train=TrainConfig(steps=3000, log_every=250, save_every=3000, sample_tokens=0),
    )
