"""What decoders in Llama's naming share: the tensors around their mixers, and the fields of config.json about them."""

from __future__ import annotations

from typing import Any

from jaxseq.convert.architecture import Fields, mixer_of, require, require_fields
from jaxseq.convert.families.lfm2 import shortest
from jaxseq.convert.table import Table, matrix, same
from jaxseq.mixers.attention import Attention
from jaxseq.model import ModelConfig

TOP: Table = (
    same("embedding", "model.embed_tokens.weight"),
    same("norm", "model.norm.weight"),
    matrix("head", "lm_head.weight"),
)
NORMS: Table = (same("mixer_norm", "input_layernorm.weight"), same("mlp_norm", "post_attention_layernorm.weight"))
MLP: Table = tuple(matrix(f"mlp.w_{name}", f"mlp.{name}_proj.weight") for name in ("gate", "up", "down"))
PLAIN_ATTENTION = {
    "window": None, "out_bias": False, "qk_norm": False, "qk_norm_whole": False, "out_gate": False,
    "weights": "softmax",
}  # fmt: skip
LINEAR, FULL = "linear_attention", "full_attention"  # of layer_types


def read_model(fields: Fields, linear: str, options: dict[str, Any], **built_in: Any) -> ModelConfig:
    """The model with those options, whose layers are of the mixer `linear` and of attention.

    Raises ValueError for layers of another kind.
    """
    fields.expect(hidden_act="silu")
    kinds, types = {LINEAR: linear, FULL: "attention"}, fields.take("layer_types")
    if other := sorted(set(types) - set(kinds)):
        raise ValueError(f"config.json: layer_types must be {LINEAR} or {FULL}, got {other[0]}")
    pattern = shortest(tuple(kinds[kind] for kind in types))
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=fields.take("hidden_size"),
        layers=fields.take("num_hidden_layers"),
        pattern=pattern,
        options={kind: options[kind] for kind in dict.fromkeys(pattern)},
        mlp_width=fields.take("intermediate_size"),
        residual_scale=False,
        norm_eps=fields.take("rms_norm_eps"),
        tied=fields.take("tie_word_embeddings", False),
        **built_in,
    )


def write_model(config: ModelConfig, **values: Any) -> dict[str, Any]:
    """What `read_model` reads. ValueError for another model, or a field that has not the value in `values`."""
    require(config, mlp="swiglu", logit_cap=None, **values)
    if not config.hidden:
        raise ValueError("model.mlp_width must not be 0")
    return {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "layer_types": [FULL if kind == "attention" else LINEAR for kind in config.pattern * config.repeats],
        "intermediate_size": config.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),  # the defaults are ids of other vocabularies
    }


def read_attention(fields: Fields, **built_in: Any) -> dict[str, Any]:
    """Options of attention: what config.json says of the heads, and what the class has built in."""
    sizes = {"heads": fields.take("num_attention_heads"), "kv_heads": fields.take("num_key_value_heads")}
    return {**sizes, "context": fields.take("max_position_embeddings"), **built_in}


def write_attention(config: ModelConfig, **built_in: Any) -> tuple[dict[str, Any], Attention]:
    """What `read_attention` reads, and the mixer. ValueError for fields that are not as in `built_in`."""
    mixer = mixer_of(config, "attention", Attention)
    require_fields(mixer, "attention", **{**PLAIN_ATTENTION, **built_in})
    heads = {"num_attention_heads": mixer.heads, "num_key_value_heads": mixer.sizes()[0]}
    return {**heads, "max_position_embeddings": mixer.context}, mixer


def read_rope(fields: Fields, *harmless: str) -> dict[str, float]:
    """Options of attention out of `rope_parameters`. ValueError for scaled frequencies; `harmless` change nothing."""
    rope = dict(fields.take("rope_parameters"))
    if (kind := rope.pop("rope_type", "default")) != "default":
        raise ValueError(f"config.json: rope_parameters.rope_type must be 'default' to be converted, got {kind!r}")
    options = {"rope_base": rope.pop("rope_theta"), "rope_fraction": rope.pop("partial_rotary_factor", 1.0)}
    if unknown := sorted(set(rope) - set(harmless)):
        raise ValueError(f"config.json: rope_parameters has {unknown[0]}, which the conversion does not know")
    return options


def write_rope(mixer: Attention) -> dict[str, Any]:
    """`rope_parameters` of such options."""
    part = {} if mixer.rope_fraction == 1 else {"partial_rotary_factor": mixer.rope_fraction}
    return {"rope_type": "default", "rope_theta": mixer.rope_base, **part}
