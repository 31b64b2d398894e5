"""The classes of transformers that we convert from and to."""

from jaxseq.convert.architecture import Architecture
from jaxseq.convert.families import mamba

ARCHITECTURES: tuple[Architecture, ...] = (mamba.MAMBA_LM, mamba.FALCON_MAMBA_LM)
