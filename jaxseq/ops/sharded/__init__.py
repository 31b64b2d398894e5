"""Every scan with its time axis split over a mesh axis: the ops' own functions, with the same arguments.

For use under `jax.jit` inside `jax.set_mesh(mesh)`. Each device holds a part of time (and, where the mesh says so, of
rows and heads); `relay` says what travels between them: a few states per device, however long the sequence and however
many the devices. Without a mesh in force, with one that does not split time, and for a single step these are the ops
themselves. A cell's steps have no summary: `cell_scan` is not here. It gathers time; a cell is solved in parallel over
time instead.

Raises, beside what the ops raise: ValueError if the devices do not divide T.
"""

from jaxseq.ops.sharded.matrices import (
    delta_rule,
    dplr_attention,
    exponential_attention,
    linear_attention,
    normalized_linear_attention,
    rwkv7_attention,
)
from jaxseq.ops.sharded.project import linear_scan_project
from jaxseq.ops.sharded.scans import (
    block_scan,
    coupled_scan,
    linear_scan,
    log_linear_scan,
    prefix_logsumexp,
    softmax_scan,
)
from jaxseq.ops.sharded.windows import causal_conv, token_shift

__all__ = [
    "block_scan",
    "causal_conv",
    "coupled_scan",
    "delta_rule",
    "dplr_attention",
    "exponential_attention",
    "linear_attention",
    "linear_scan",
    "linear_scan_project",
    "log_linear_scan",
    "normalized_linear_attention",
    "prefix_logsumexp",
    "rwkv7_attention",
    "softmax_scan",
    "token_shift",
]
