"""Training."""

from jaxseq.train.run import train

__all__ = ["train"]
