"""Qwen3_5ForCausalLM of transformers, the text model: three layers of Gated DeltaNet to one of gated attention."""

from __future__ import annotations

from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of
from jaxseq.convert.families.decoder import (
    MLP,
    read_attention,
    read_model,
    read_rope,
    write_attention,
    write_model,
    write_rope,
)
from jaxseq.convert.families.delta_net import QWEN3_5, read_delta, write_delta
from jaxseq.convert.table import Table, by_head, matrix, same, shifted, under
from jaxseq.mixers.attention import Attention
from jaxseq.model import ModelConfig

TOP: Table = (
    same("embedding", "model.embed_tokens.weight"),
    shifted("norm", "model.norm.weight", 1),
    matrix("head", "lm_head.weight"),
)
AROUND: Table = (
    shifted("mixer_norm", "input_layernorm.weight", 1),
    shifted("mlp_norm", "post_attention_layernorm.weight", 1),
    *MLP,
)


def attention(heads: int) -> Table:
    """Qwen3_5Attention's tensors, for so many heads of queries, each of which has its gate beside it."""
    return (
        by_head(("w_q", "w_g"), "q_proj.weight", heads),
        matrix("w_k", "k_proj.weight"),
        matrix("w_v", "v_proj.weight"),
        matrix("w_o", "o_proj.weight"),
        shifted("norm_q", "q_norm.weight", 1),
        shifted("norm_k", "k_norm.weight", 1),
    )


def _blocks(config: ModelConfig) -> tuple[Table, ...]:
    tables = {"gated_delta_net": under("mixer.", "linear_attn.", QWEN3_5)}
    if "attention" in config.pattern:
        heads = mixer_of(config, "attention", Attention).heads
        tables["attention"] = under("mixer.", "self_attn.", attention(heads))
    return tuple((*AROUND, *tables[kind]) for kind in config.pattern)


def _read(fields: Fields) -> ModelConfig:
    fields.expect(attention_bias=False)
    fields.ignore("full_attention_interval")  # layer_types says it
    eps = fields.take("rms_norm_eps")
    # The three parts of a position in an image are one and the same in text.
    rope = read_rope(fields, "mrope_section", "mrope_interleaved")
    gated = {"head_dim": fields.take("head_dim"), "qk_norm": True, "norm_eps": eps, "out_gate": True}
    options = {
        "gated_delta_net": {**read_delta(fields), "norm_eps": eps},
        "attention": read_attention(fields, **gated, **rope),
    }
    return read_model(fields, "gated_delta_net", options)


def _write(config: ModelConfig) -> dict[str, Any]:
    eps = config.norm_eps
    heads, mixer = write_attention(config, qk_norm=True, out_gate=True, norm_eps=eps)
    return {
        **write_model(config),
        **write_delta(config, norm_eps=eps, beta_max=1.0),
        **heads,
        "head_dim": mixer.sizes()[1],
        "attention_bias": False,
        "rope_parameters": write_rope(mixer),
    }


QWEN3_5_LM = Architecture(
    name="Qwen3_5ForCausalLM",
    model_type="qwen3_5_text",
    mixers=frozenset({"gated_delta_net", "attention"}),
    layer="model.layers.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
)
