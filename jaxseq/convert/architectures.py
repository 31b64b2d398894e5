"""The classes of transformers that we convert from and to."""

from jaxseq.convert.architecture import Architecture
from jaxseq.convert.families import lfm2, mamba, mamba2, recurrent_gemma, rwkv4, xlstm

ARCHITECTURES: tuple[Architecture, ...] = (
    mamba.MAMBA_LM,
    mamba.FALCON_MAMBA_LM,
    mamba2.MAMBA2_LM,
    recurrent_gemma.RECURRENT_GEMMA,
    lfm2.LFM2,
    rwkv4.RWKV4_LM,
    xlstm.XLSTM_LM,
)
