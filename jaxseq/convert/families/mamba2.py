"""Mamba2Mixer of transformers against `mixers.mamba2`; Bamba, Zamba-2 and NemotronH have the same eight tensors."""

from __future__ import annotations

from jaxseq.convert.table import Table, joined, joined_taps, joined_vectors, matrix, same

MAMBA2: Table = (
    joined(("w_z", "w_x", "w_bc", "w_dt"), "in_proj.weight"),
    joined_taps(("conv_x_w", "conv_bc_w"), "conv1d.weight"),
    joined_vectors(("conv_x_b", "conv_bc_b"), "conv1d.bias"),
    same("a_log", "A_log"),
    same("b_dt", "dt_bias"),
    same("d", "D"),
    same("norm", "norm.weight"),
    matrix("w_o", "out_proj.weight"),
)
