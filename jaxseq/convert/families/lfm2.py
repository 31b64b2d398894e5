"""Lfm2ShortConv of transformers against `mixers.short_conv`."""

from __future__ import annotations

from jaxseq.convert.table import Table, joined, matrix, taps

SHORT_CONV: Table = (
    joined(("w_b", "w_c", "w_x"), "in_proj.weight"),
    taps("conv_w", "conv.weight"),
    matrix("w_o", "out_proj.weight"),
)
