"""KimiLinearDeltaAttention and BailingHybridDeltaAttention of transformers against `mixers.kda`."""

from __future__ import annotations

from jaxseq.convert.table import Table, joined_taps, matrix, same

SHARED: Table = (
    matrix("w_q", "q_proj.weight"),
    matrix("w_k", "k_proj.weight"),
    matrix("w_v", "v_proj.weight"),
    joined_taps(("conv_q_w", "conv_k_w", "conv_v_w"), "conv1d.weight"),
    matrix("w_beta", "b_proj.weight"),
    same("b_dt", "forget_gate.dt_bias"),
    same("norm", "o_norm.weight"),
    matrix("w_o", "o_proj.weight"),
)

KIMI_LINEAR: Table = (
    *SHARED,
    matrix("w_dt_a", "forget_gate.f_a_proj.weight"),
    matrix("w_dt_b", "forget_gate.f_b_proj.weight"),
    same("a_log", "forget_gate.A_log", (1, 1, -1, 1)),
    matrix("w_z_a", "g_a_proj.weight"),
    matrix("w_z_b", "g_b_proj.weight"),
)

BAILING_HYBRID: Table = (  # with rank 0, and its kda_lower_bound where its kda_safe_gate is set
    *SHARED,
    matrix("w_dt", "forget_gate.f_proj.weight"),
    same("a_log", "forget_gate.A_log"),
    matrix("w_z", "g_proj.weight"),
)
