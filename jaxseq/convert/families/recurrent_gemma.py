"""The two temporal blocks of transformers' RecurrentGemma: `rg_lru` and `attention`."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require, require_fields
from jaxseq.convert.table import Table, matrix, same, shifted, taps, under
from jaxseq.mixers.attention import Attention
from jaxseq.mixers.rg_lru import RGLRU
from jaxseq.model import ModelConfig

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


# ---- whole models

TOP: Table = (
    same("embedding", "model.embed_tokens.weight"),
    shifted("norm", "model.final_norm.weight", 1),
    matrix("head", "lm_head.weight"),
)
AROUND: Table = (
    shifted("mixer_norm", "temporal_pre_norm.weight", 1),
    shifted("mlp_norm", "channel_pre_norm.weight", 1),
    *(matrix(f"mlp.w_{name}", f"mlp_block.{name}_proj.weight") for name in ("gate", "up", "down")),
    *(same(f"mlp.b_{name}", f"mlp_block.{name}_proj.bias") for name in ("gate", "up", "down")),
)
KINDS = {"recurrent": "rg_lru", "attention": "attention"}
MIXERS = {"rg_lru": RECURRENT, "attention": ATTENTION}


def _blocks(config: ModelConfig) -> tuple[Table, ...]:
    return tuple((*AROUND, *under("mixer.", "temporal_block.", MIXERS[kind])) for kind in config.pattern)


def _embedding_scale(width: int) -> float:
    """√width as transformers has it, rounded to bfloat16."""
    return float(np.sqrt(width).astype(ml_dtypes.bfloat16))


def _read(fields: Fields) -> ModelConfig:
    fields.expect(hidden_activation="gelu_pytorch_tanh", attention_bias=False)
    fields.ignore("w_init_variance_scale", "final_w_init_variance_scale")
    width, heads, rope = fields.take("hidden_size"), fields.take("num_attention_heads"), fields.take("rope_parameters")
    layers, types = fields.take("num_hidden_layers"), [KINDS[kind] for kind in fields.take("block_types")]
    eps = fields.take("rms_norm_eps", 1e-6)
    recurrent = {"inner": fields.take("lru_width"), "heads": heads, "conv_width": fields.take("conv1d_width")}
    attention = {
        "heads": heads,
        "kv_heads": fields.take("num_key_value_heads"),
        "head_dim": fields.take("head_dim"),
        "window": fields.take("attention_window_size"),
        "rope_base": rope["rope_theta"],
        "rope_fraction": rope["partial_rotary_factor"],
        "out_bias": True,
    }
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=width,
        layers=layers,
        pattern=tuple(types) if layers % len(types) == 0 else tuple((types * layers)[:layers]),
        options={"rg_lru": recurrent, "attention": attention},
        mlp_width=fields.take("intermediate_size") // 2,
        mlp="geglu",
        mlp_bias=True,
        residual_scale=False,
        norm_eps=eps,
        tied=fields.take("tie_word_embeddings", True),
        embedding_scale=_embedding_scale(width),
        logit_cap=fields.take("logits_soft_cap"),
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    require(config, mlp="geglu", mlp_bias=True, embedding_scale=_embedding_scale(config.width))
    recurrent = mixer_of(config, "rg_lru", RGLRU)
    attention = mixer_of(config, "attention", Attention)
    kv_heads, head_dim, _ = attention.sizes()
    if attention.heads != recurrent.heads:
        raise ValueError(f"rg_lru.heads must be attention.heads = {attention.heads}, got {recurrent.heads}")
    require_fields(attention, "attention", out_bias=True, qk_norm=False, out_gate=False, weights="softmax")
    if attention.window is None:
        raise ValueError("attention must have a window")
    theirs = {ours: kind for kind, ours in KINDS.items()}
    return {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "block_types": [theirs[kind] for kind in config.pattern],
        "intermediate_size": 2 * config.hidden,
        "hidden_activation": "gelu_pytorch_tanh",
        "lru_width": recurrent.sizes(),
        "conv1d_width": recurrent.conv_width,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "attention_window_size": attention.window,
        "attention_bias": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": attention.rope_base,
            "partial_rotary_factor": attention.rope_fraction,
        },
        "logits_soft_cap": config.logit_cap,
        "rms_norm_eps": config.norm_eps,
    }


RECURRENT_GEMMA = Architecture(
    name="RecurrentGemmaForCausalLM",
    model_type="recurrent_gemma",
    mixers=frozenset(MIXERS),
    layer="model.layers.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
)
