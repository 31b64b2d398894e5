"""Lfm2ShortConv of transformers against `mixers.short_conv`."""

from __future__ import annotations

from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require, require_fields
from jaxseq.convert.table import Table, joined, matrix, same, taps, under
from jaxseq.mixers.attention import Attention
from jaxseq.mixers.short_conv import ShortConv
from jaxseq.model import ModelConfig

SHORT_CONV: Table = (
    joined(("w_b", "w_c", "w_x"), "in_proj.weight"),
    taps("conv_w", "conv.weight"),
    matrix("w_o", "out_proj.weight"),
)

ATTENTION: Table = (
    *(matrix(f"w_{name}", f"{name}_proj.weight") for name in "qkv"),
    matrix("w_o", "out_proj.weight"),
    same("norm_q", "q_layernorm.weight"),
    same("norm_k", "k_layernorm.weight"),
)

# ---- whole models

TOP: Table = (
    same("embedding", "model.embed_tokens.weight"),
    same("norm", "model.embedding_norm.weight"),  # it comes after the last layer, whatever its name says
    matrix("head", "lm_head.weight"),
)
AROUND: Table = (
    same("mixer_norm", "operator_norm.weight"),
    same("mlp_norm", "ffn_norm.weight"),
    matrix("mlp.w_gate", "feed_forward.w1.weight"),
    matrix("mlp.w_up", "feed_forward.w3.weight"),
    matrix("mlp.w_down", "feed_forward.w2.weight"),
)
KINDS = {"conv": "short_conv", "full_attention": "attention"}
MIXERS = {"short_conv": ("conv.", SHORT_CONV), "attention": ("self_attn.", ATTENTION)}


def _blocks(config: ModelConfig) -> tuple[Table, ...]:
    return tuple((*AROUND, *under("mixer.", *MIXERS[kind])) for kind in config.pattern)


def _hidden(fields: Fields) -> int:
    """The MLP's inner width, which config.json gives before it is adjusted."""
    hidden = fields.take("intermediate_size")
    multiple, factor = fields.take("block_multiple_of", 256), fields.take("block_ffn_dim_multiplier", 1.0)
    if not fields.take("block_auto_adjust_ff_dim", True):
        return hidden
    hidden = int((1.0 if factor is None else factor) * int(2 * hidden / 3))
    return multiple * -(-hidden // multiple)


def _read(fields: Fields) -> ModelConfig:
    fields.expect(conv_bias=False)
    fields.ignore("full_attn_idxs")
    types = fields.take("layer_types")
    rope = fields.take("rope_parameters")
    eps = fields.take("norm_eps")
    attention = {
        "heads": fields.take("num_attention_heads"),
        "kv_heads": fields.take("num_key_value_heads"),
        "context": fields.take("max_position_embeddings"),
        "rope_base": rope["rope_theta"],
        "qk_norm": True,
        "norm_eps": eps,
    }
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=fields.take("hidden_size"),
        layers=fields.take("num_hidden_layers"),
        pattern=shortest(tuple(KINDS[kind] for kind in types)),
        options={"short_conv": {"conv_width": fields.take("conv_L_cache")}, "attention": attention},
        mlp_width=_hidden(fields),
        residual_scale=False,
        norm_eps=eps,
        tied=fields.take("tie_word_embeddings", True),
    )


def shortest(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest pattern that, repeated, is `kinds`."""
    lengths = (n for n in range(1, len(kinds) + 1) if len(kinds) % n == 0)
    return next(kinds[:n] for n in lengths if kinds[:n] * (len(kinds) // n) == kinds)


def _write(config: ModelConfig) -> dict[str, Any]:
    require(config, mlp="swiglu", logit_cap=None)
    attention = mixer_of(config, "attention", Attention)
    kv_heads, head_dim, _ = attention.sizes()
    built_in = {"window": None, "qk_norm": True, "norm_eps": config.norm_eps, "out_bias": False, "rope_fraction": 1.0}
    require_fields(attention, "attention", **built_in, qk_norm_whole=False, out_gate=False, weights="softmax")
    if head_dim * attention.heads != config.width:
        raise ValueError(f"attention.head_dim must be width / heads, got {head_dim}")
    theirs = {ours: kind for kind, ours in KINDS.items()}
    return {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "layer_types": [theirs[kind] for kind in config.pattern * config.repeats],
        "intermediate_size": config.hidden,
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": mixer_of(config, "short_conv", ShortConv).conv_width,
        "conv_bias": False,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": attention.context,
        "rope_parameters": {"rope_type": "default", "rope_theta": attention.rope_base},
        "norm_eps": config.norm_eps,
    }


LFM2 = Architecture(
    name="Lfm2ForCausalLM",
    model_type="lfm2",
    mixers=frozenset(MIXERS),
    layer="model.layers.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
)
