"""Delta rules of transformers against `mixers.gated_delta_net`: OlmoHybridGatedDeltaNet and Qwen3_5GatedDeltaNet."""

from __future__ import annotations

from typing import Any

import jax

from jaxseq.convert.architecture import Fields, mixer_of, require_fields
from jaxseq.convert.table import Table, joined, joined_taps, matrix, same
from jaxseq.mixers.gated_delta_net import GatedDeltaNet
from jaxseq.model import ModelConfig

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


# ---- whole models


def read_delta(fields: Fields) -> dict[str, Any]:
    """Options of `gated_delta_net` out of a config.json."""
    return {
        "heads": fields.take("linear_num_key_heads"),
        "value_heads": fields.take("linear_num_value_heads"),
        "key_dim": fields.take("linear_key_head_dim"),
        "value_dim": fields.take("linear_value_head_dim"),
        "conv_width": fields.take("linear_conv_kernel_dim"),
    }


def write_delta(config: ModelConfig, **built_in: Any) -> dict[str, Any]:
    """What `read_delta` reads. Raises ValueError for a field of the mixer that is not as in `built_in`."""
    mixer = mixer_of(config, "gated_delta_net", GatedDeltaNet)
    require_fields(mixer, "gated_delta_net", **built_in)
    state = jax.eval_shape(lambda: mixer.init_state(1))
    _, heads, key, value = state["S"].shape
    return {
        "linear_num_key_heads": state["conv_k"].shape[-1] // key,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": key,
        "linear_value_head_dim": value,
        "linear_conv_kernel_dim": mixer.conv_width,
    }
