"""Delta rules of transformers against `mixers.gated_delta_net`: OlmoHybridGatedDeltaNet and Qwen3_5GatedDeltaNet."""

from __future__ import annotations

from jaxseq.convert.table import Table, joined, joined_taps, matrix, same

OLMO_HYBRID: Table = (  # with beta_max 2 where its configuration allows negative eigenvalues
    matrix("w_q", "q_proj.weight"),
    matrix("w_k", "k_proj.weight"),
    matrix("w_v", "v_proj.weight"),
    joined_taps(("conv_q_w", "conv_k_w", "conv_v_w"), "conv1d.weight"),
    matrix("w_beta", "b_proj.weight"),
    matrix("w_z", "g_proj.weight"),
    same("norm", "o_norm.weight"),
    matrix("w_o", "o_proj.weight"),
    matrix("w_dt", "a_proj.weight"),
    same("b_dt", "dt_bias"),
    same("a_log", "A_log"),
)

QWEN3_5: Table = (
    joined(("w_q", "w_k", "w_v"), "in_proj_qkv.weight"),
    joined_taps(("conv_q_w", "conv_k_w", "conv_v_w"), "conv1d.weight"),
    matrix("w_beta", "in_proj_b.weight"),
    matrix("w_z", "in_proj_z.weight"),
    same("norm", "norm.weight"),
    matrix("w_o", "out_proj.weight"),
    matrix("w_dt", "in_proj_a.weight"),
    same("b_dt", "dt_bias"),
    same("a_log", "A_log"),
)
