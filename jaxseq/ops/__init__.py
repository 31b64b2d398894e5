"""Pure functions of arrays: the scans and what goes with them."""

from jaxseq.ops.block_scan import block_scan
from jaxseq.ops.cell_scan import cell_scan
from jaxseq.ops.choice import explain
from jaxseq.ops.conv import causal_conv
from jaxseq.ops.coupled_scan import coupled_scan
from jaxseq.ops.delta_rule import delta_rule, rwkv7_attention
from jaxseq.ops.dplr import dplr_attention
from jaxseq.ops.exponential_attention import exponential_attention
from jaxseq.ops.linear_attention import linear_attention, normalized_linear_attention, prefix_state
from jaxseq.ops.linear_scan import linear_scan
from jaxseq.ops.log_scan import log_linear_scan, prefix_logsumexp
from jaxseq.ops.matmul import matmul
from jaxseq.ops.norm import l2_norm, layer_norm, rms_norm, unit_norm
from jaxseq.ops.project import linear_scan_project
from jaxseq.ops.shift import token_shift
from jaxseq.ops.softmax_scan import softmax_scan

__all__ = [
    "block_scan",
    "causal_conv",
    "cell_scan",
    "coupled_scan",
    "delta_rule",
    "dplr_attention",
    "explain",
    "exponential_attention",
    "l2_norm",
    "layer_norm",
    "linear_attention",
    "linear_scan",
    "linear_scan_project",
    "log_linear_scan",
    "matmul",
    "normalized_linear_attention",
    "prefix_logsumexp",
    "prefix_state",
    "rms_norm",
    "rwkv7_attention",
    "softmax_scan",
    "token_shift",
    "unit_norm",
]
