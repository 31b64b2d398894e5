"""KimiLinearForCausalLM of transformers where every layer is KDA with a dense MLP.

Its multi-head latent attention and its mixture of experts are not among our layers, and are refused by name; what
config.json says of their sizes is then of no layer.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require_fields
from jaxseq.convert.families.decoder import LINEAR, MLP, NORMS, TOP, read_model, write_model
from jaxseq.convert.families.kda import KIMI_LINEAR
from jaxseq.convert.table import Table, separate_taps, under
from jaxseq.mixers.kda import KDA
from jaxseq.model import ModelConfig

CONVS = (("conv_q_w", "conv_k_w", "conv_v_w"), ("q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"))
IN_FILES = tuple(  # names are joined with this prefix only once loaded
    entry._replace(theirs=tuple(name.removeprefix("forget_gate.") for name in entry.theirs))
    for entry in KIMI_LINEAR
    if entry.ours != CONVS[0]
)
BLOCK: Table = (*NORMS, *under("mixer.", "self_attn.", (*IN_FILES, separate_taps(*CONVS))), *MLP)
ELSEWHERE = {  # sizes of latent attention and of experts
    *("head_dim", "kv_lora_rank", "q_lora_rank", "qk_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
    *("num_attention_heads", "num_key_value_heads", "model_max_length", "moe_intermediate_size", "moe_renormalize"),
    *("num_expert_group", "num_experts", "num_experts_per_token", "num_shared_experts", "output_router_logits"),
    *("routed_scaling_factor", "topk_group", "pretraining_tp"),
}


def _refuse_others(what: str, kinds: list[str], only: str, why: str) -> None:
    if other := sorted(set(kinds) - {only}):
        raise ValueError(f"config.json: {what} must be {only} in every layer ({why}), got {other[0]}")


def _read(fields: Fields) -> ModelConfig:
    fields.expect(attention_bias=False, tie_word_embeddings=False)
    fields.ignore(*ELSEWHERE)
    _refuse_others("layer_types", fields.take("layer_types"), LINEAR, "jaxseq has no multi-head latent attention")
    _refuse_others("mlp_layer_types", fields.take("mlp_layer_types"), "dense", "jaxseq has no mixture of experts")
    width = fields.take("linear_head_dim")
    kda = {
        "heads": fields.take("linear_num_heads"),
        "key_dim": width,
        "value_dim": width,
        "rank": width,
        "conv_width": fields.take("linear_conv_kernel_dim"),
        "norm_eps": fields.take("rms_norm_eps"),
    }
    return read_model(fields, "kda", {"kda": kda})


def _write(config: ModelConfig) -> dict[str, Any]:
    mixer = mixer_of(config, "kda", KDA)
    _, heads, key, value = jax.eval_shape(lambda: mixer.init_state(1))["S"].shape
    require_fields(mixer, "kda", lower_bound=None, norm_eps=config.norm_eps)
    if not key == value == (value if mixer.rank is None else mixer.rank):
        raise ValueError(f"kda.key_dim, value_dim and rank must be one number, got {key}, {value} and {mixer.rank}")
    return {
        **write_model(config, tied=False),
        "mlp_layer_types": ["dense"] * config.layers,
        "linear_num_heads": heads,
        "linear_head_dim": key,
        "linear_conv_kernel_dim": mixer.conv_width,
        "attention_bias": False,
    }


KIMI_LINEAR_LM = Architecture(
    name="KimiLinearForCausalLM",
    model_type="kimi_linear",
    mixers=frozenset({"kda"}),
    layer="model.layers.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=lambda config: (BLOCK,) * len(config.pattern),
    read_config=_read,
    write_config=_write,
    aliases=tuple(
        (f"mlp.{name}_proj.weight", f"block_sparse_moe.{name}_proj.weight") for name in ("gate", "up", "down")
    ),
)
