"""Layers over time, by name."""

from jaxseq.mixers.aaren import Aaren
from jaxseq.mixers.attention import Attention
from jaxseq.mixers.base import Mixer
from jaxseq.mixers.block_lrnn import BlockLRNN
from jaxseq.mixers.channel_mix import ChannelMix
from jaxseq.mixers.delta_net import DeltaNet
from jaxseq.mixers.gated_delta_net import GatedDeltaNet
from jaxseq.mixers.gla import GLA
from jaxseq.mixers.hgrn import HGRN
from jaxseq.mixers.hgrn2 import HGRN2
from jaxseq.mixers.kda import KDA
from jaxseq.mixers.lightnet import LightNet
from jaxseq.mixers.longhorn import Longhorn
from jaxseq.mixers.lru import LRU
from jaxseq.mixers.mamba import Mamba
from jaxseq.mixers.mamba2 import Mamba2
from jaxseq.mixers.min_gru import MinGRU
from jaxseq.mixers.min_lstm import MinLSTM
from jaxseq.mixers.mlstm import MLSTM
from jaxseq.mixers.mlstm_block import MLSTMBlock
from jaxseq.mixers.para_rnn import ParaRNN
from jaxseq.mixers.retnet import RetNet
from jaxseq.mixers.rg_lru import RGLRU
from jaxseq.mixers.rwkv4 import RWKV4
from jaxseq.mixers.rwkv6 import RWKV6
from jaxseq.mixers.rwkv7 import RWKV7
from jaxseq.mixers.s4d import S4D
from jaxseq.mixers.s5 import S5
from jaxseq.mixers.short_conv import ShortConv

MIXERS: dict[str, type[Mixer]] = {
    "aaren": Aaren,
    "attention": Attention,
    "block_lrnn": BlockLRNN,
    "channel_mix": ChannelMix,
    "delta_net": DeltaNet,
    "gated_delta_net": GatedDeltaNet,
    "gla": GLA,
    "hgrn": HGRN,
    "hgrn2": HGRN2,
    "kda": KDA,
    "lightnet": LightNet,
    "longhorn": Longhorn,
    "lru": LRU,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "min_gru": MinGRU,
    "min_lstm": MinLSTM,
    "mlstm": MLSTM,
    "mlstm_block": MLSTMBlock,
    "para_rnn": ParaRNN,
    "retnet": RetNet,
    "rg_lru": RGLRU,
    "rwkv4": RWKV4,
    "rwkv6": RWKV6,
    "rwkv7": RWKV7,
    "s4d": S4D,
    "s5": S5,
    "short_conv": ShortConv,
}

__all__ = ["MIXERS"]
