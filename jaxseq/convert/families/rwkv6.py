"""RWKV-6's time mixing, as in its authors' checkpoints below blocks.0.att, blocks.1.att and so on."""

from jaxseq.convert.table import Table, matrix, same

_ROW = (1, 1, -1)

TIME_MIX: Table = (
    *(same(f"mu_{z}", f"time_maa_{z}", _ROW) for z in "xwkvrg"),
    same("mix_in", "time_maa_w1"),
    same("mix_out", "time_maa_w2"),
    same("decay_bias", "time_decay", _ROW),
    same("decay_in", "time_decay_w1"),
    same("decay_out", "time_decay_w2"),
    same("bonus", "time_faaaa"),
    matrix("w_r", "receptance.weight"),
    matrix("w_k", "key.weight"),
    matrix("w_v", "value.weight"),
    matrix("w_g", "gate.weight"),
    matrix("w_o", "output.weight"),
    same("norm", "ln_x.weight"),
    same("norm_bias", "ln_x.bias"),
)
