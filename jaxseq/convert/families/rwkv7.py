"""RWKV-7's time mixing, as in its authors' checkpoints below blocks.0.att, blocks.1.att and so on.

The first layer does not use v0, v1 and v2, here as there.
"""

from jaxseq.convert.table import Table, matrix, same

_ROW = (1, 1, -1)

TIME_MIX: Table = (
    *(same(f"mu_{z}", f"x_{z}", _ROW) for z in "rwkvg"),
    same("mu_eta", "x_a", _ROW),
    same("decay_bias", "w0", _ROW),
    same("decay_in", "w1"),
    same("decay_out", "w2"),
    same("eta_bias", "a0", _ROW),
    same("eta_in", "a1"),
    same("eta_out", "a2"),
    same("value_bias", "v0", _ROW),
    same("value_in", "v1"),
    same("value_out", "v2"),
    same("gate_in", "g1"),
    same("gate_out", "g2"),
    same("xi", "k_k", _ROW),
    same("alpha", "k_a", _ROW),
    same("rho", "r_k"),
    matrix("w_r", "receptance.weight"),
    matrix("w_k", "key.weight"),
    matrix("w_v", "value.weight"),
    matrix("w_o", "output.weight"),
    same("norm", "ln_x.weight"),
    same("norm_bias", "ln_x.bias"),
)
