"""Training."""

from jaxseq.train.run import train
from jaxseq.train.watch import steps_of

__all__ = ["steps_of", "train"]
