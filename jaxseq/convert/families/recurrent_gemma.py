"""The two temporal blocks of transformers' RecurrentGemma: `rg_lru` and `attention`."""

from jaxseq.convert.table import matrix, same, taps

RECURRENT = (
    matrix("w_z", "linear_y.weight"),
    same("b_z", "linear_y.bias"),
    matrix("w_x", "linear_x.weight"),
    same("b_x", "linear_x.bias"),
    taps("conv_w", "conv_1d.weight"),
    same("conv_b", "conv_1d.bias"),
    same("w_r", "rg_lru.recurrent_gate_weight"),
    same("b_r", "rg_lru.recurrent_gate_bias"),
    same("w_i", "rg_lru.input_gate_weight"),
    same("b_i", "rg_lru.input_gate_bias"),
    same("lambda", "rg_lru.recurrent_param"),
    matrix("w_o", "linear_out.weight"),
    same("b_o", "linear_out.bias"),
)

ATTENTION = (
    matrix("w_q", "q_proj.weight"),
    matrix("w_k", "k_proj.weight"),
    matrix("w_v", "v_proj.weight"),
    matrix("w_o", "o_proj.weight"),
    same("b_o", "o_proj.bias"),
)
