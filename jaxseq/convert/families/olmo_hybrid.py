"""OlmoHybridForCausalLM of transformers: three layers of Gated DeltaNet to one of attention, which has its norms after.

Rotary positions are an option there: the released models have none.
"""

from __future__ import annotations

from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of
from jaxseq.convert.families.decoder import (
    MLP,
    TOP,
    read_attention,
    read_model,
    read_rope,
    write_attention,
    write_model,
    write_rope,
)
from jaxseq.convert.families.delta_net import OLMO_HYBRID, read_delta, write_delta
from jaxseq.convert.table import Table, matrix, same, separate_taps, under
from jaxseq.mixers.gated_delta_net import GatedDeltaNet
from jaxseq.model import ModelConfig

EPS = 1e-5  # of the norm in the delta rule, whatever config.json says of the others
ATTENTION: Table = (
    *(matrix(f"w_{name}", f"{name}_proj.weight") for name in "qkvo"),
    same("norm_q", "q_norm.weight"),
    same("norm_k", "k_norm.weight"),
)
CONVS = (("conv_q_w", "conv_k_w", "conv_v_w"), ("q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"))
DELTA: Table = (*(e for e in OLMO_HYBRID if e.ours != CONVS[0]), separate_taps(*CONVS))  # joined only once loaded
BLOCKS: dict[str, Table] = {
    "gated_delta_net": (
        same("mixer_norm", "attention_layer_norm.weight"),
        same("mlp_norm", "feedforward_layer_norm.weight"),
        *under("mixer.", "linear_attn.", DELTA),
        *MLP,
    ),
    "attention": (
        same("mixer_norm", "post_attention_layernorm.weight"),
        same("mlp_norm", "post_feedforward_layernorm.weight"),
        *under("mixer.", "self_attn.", ATTENTION),
        *MLP,
    ),
}
NO_ROPE, WITHOUT = {"rope_fraction": 0.0}, {"rope_type": "default", "rope_theta": None}
BUILT_IN = {"qk_norm": True, "qk_norm_whole": True}


def _blocks(config: ModelConfig) -> tuple[Table, ...]:
    return tuple(BLOCKS[kind] for kind in config.pattern)


def _rope(fields: Fields) -> dict[str, float]:
    given = fields.take("rope_parameters")
    if given is None:  # which transformers replaces by positions with its default base
        raise ValueError("config.json: rope_parameters must be given, for no positions with rope_theta null")
    if given.get("rope_theta") is None:
        return NO_ROPE
    if (found := read_rope(fields))["rope_fraction"] != 1:
        raise ValueError(f"config.json: partial_rotary_factor must be 1 to be converted, got {found['rope_fraction']}")
    return found


def _read(fields: Fields) -> ModelConfig:
    fields.expect(attention_bias=False)
    fields.ignore("linear_a_log_min", "linear_a_log_max", "linear_dt_init_floor")
    delta = {
        **read_delta(fields),
        "beta_max": 2.0 if fields.take("linear_allow_neg_eigval") else 1.0,
        "dt_min": fields.take("linear_dt_min", 1e-3),
        "dt_max": fields.take("linear_dt_max", 0.1),
        "norm_eps": EPS,
    }
    attention = read_attention(fields, **BUILT_IN, norm_eps=fields.take("rms_norm_eps"), **_rope(fields))
    options = {"gated_delta_net": delta, "attention": attention}
    return read_model(fields, "gated_delta_net", options, post_norm=("attention",))


def _write(config: ModelConfig) -> dict[str, Any]:
    heads, attention = write_attention(config, **BUILT_IN, norm_eps=config.norm_eps)
    delta = mixer_of(config, "gated_delta_net", GatedDeltaNet)
    _, width, _ = attention.sizes()
    if width * attention.heads != config.width:
        raise ValueError(f"attention.head_dim must be width / heads, got {width}")
    if attention.rope_fraction not in (0, 1) or delta.beta_max not in (1, 2):
        found = f"{attention.rope_fraction} and {delta.beta_max}"
        raise ValueError(f"attention.rope_fraction must be 0 or 1, gated_delta_net.beta_max 1 or 2, got {found}")
    return {
        **write_model(config, post_norm=("attention",)),
        **write_delta(config, norm_eps=EPS),
        **heads,
        "linear_allow_neg_eigval": delta.beta_max == 2,
        "linear_dt_min": delta.dt_min,
        "linear_dt_max": delta.dt_max,
        "attention_bias": False,
        "rope_parameters": write_rope(attention) if attention.rope_fraction else WITHOUT,
    }


OLMO_HYBRID_LM = Architecture(
    name="OlmoHybridForCausalLM",
    model_type="olmo_hybrid",
    mixers=frozenset(BLOCKS),
    layer="model.layers.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
    aliases=(  # the same once loaded, and what transformers makes of them when it saves
        ("attention_layer_norm.weight", "input_layernorm.weight"),
        ("feedforward_layer_norm.weight", "post_attention_layernorm.weight"),
        ("post_attention_layernorm.weight", "feedforward_layer_norm.weight"),
    ),
)
