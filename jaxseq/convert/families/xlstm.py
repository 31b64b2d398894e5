"""xLSTMLayer of transformers (xLSTM-7B's) against `mixers.mlstm`."""

from __future__ import annotations

from jaxseq.convert.table import Table, matrix, same

XLSTM: Table = (
    matrix("w_q", "q.weight"),
    matrix("w_k", "k.weight"),
    matrix("w_v", "v.weight"),
    matrix("w_z", "ogate_preact.weight"),
    matrix("w_i", "igate_preact.weight"),
    same("b_i", "igate_preact.bias"),
    matrix("w_f", "fgate_preact.weight"),
    same("b_f", "fgate_preact.bias"),
    same("norm", "multihead_norm.weight"),
    matrix("w_o", "out_proj.weight"),
)
