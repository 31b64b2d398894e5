"""MiniMaxLightningAttention of transformers against `mixers.retnet` with the form "lightning".

Its buffers (slope_rate, query_decay, key_decay, diagonal_decay) follow from its config and are in no table.
"""

from __future__ import annotations

from jaxseq.convert.table import Table, by_head, matrix, same


def lightning(heads: int) -> Table:
    """The table for so many heads, keys and values of one width."""
    return (
        by_head(("w_q", "w_k", "w_v"), "qkv_proj.weight", heads),
        matrix("w_g", "output_gate.weight"),
        same("norm", "norm.weight"),
        matrix("w_o", "out_proj.weight"),
    )
