"""Layers over time, by name."""

from jaxseq.mixers.attention import Attention
from jaxseq.mixers.base import Mixer
from jaxseq.mixers.lru import LRU
from jaxseq.mixers.para_rnn import ParaRNN

MIXERS: dict[str, type[Mixer]] = {
    "attention": Attention,
    "lru": LRU,
    "para_rnn": ParaRNN,
}

__all__ = ["MIXERS"]
