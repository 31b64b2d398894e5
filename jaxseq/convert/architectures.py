"""The classes of transformers that we convert from and to."""

from jaxseq.convert.architecture import Architecture
from jaxseq.convert.families import (
    kimi_linear,
    lfm2,
    mamba,
    mamba2,
    minimax,
    olmo_hybrid,
    qwen3_5,
    recurrent_gemma,
    rwkv4,
    xlstm,
)

ARCHITECTURES: tuple[Architecture, ...] = (
    mamba.MAMBA_LM,
    mamba.FALCON_MAMBA_LM,
    mamba2.MAMBA2_LM,
    recurrent_gemma.RECURRENT_GEMMA,
    lfm2.LFM2,
    qwen3_5.QWEN3_5_LM,
    olmo_hybrid.OLMO_HYBRID_LM,
    kimi_linear.KIMI_LINEAR_LM,
    minimax.MINIMAX_LM,
    rwkv4.RWKV4_LM,
    xlstm.XLSTM_LM,
)
