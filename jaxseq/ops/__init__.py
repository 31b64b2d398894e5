"""Pure functions of arrays: the scans and what goes with them."""

from jaxseq.ops.conv import causal_conv
from jaxseq.ops.linear_scan import linear_scan
from jaxseq.ops.matmul import matmul
from jaxseq.ops.norm import rms_norm

__all__ = ["causal_conv", "linear_scan", "matmul", "rms_norm"]
